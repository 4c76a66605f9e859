"""PNG, JPEG and other formats: upright, equal to the stored values, or refused."""

import struct
import time
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from cxr.config import UserError
from cxr.imaging.files import decode_pixels, read_header, read_pixels, read_size_hw
from tests.cxr.imaging.image_files import SCENE, chunk, encoded, png, turned

LIMIT = 10**6


def decode(data: bytes) -> np.ndarray:
    return decode_pixels(data, "a", max_pixels=LIMIT)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP", "GIF"])
def test_lossless_formats_keep_their_values(kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(decode(encoded(SCENE, kind, **options)), SCENE)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_stay_16_bits(kind: str) -> None:
    deep = SCENE.astype(np.uint16) * 257
    pixels = decode(encoded(deep, kind))
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, deep)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}, {"restart_marker_blocks": 2}])
def test_jpeg_has_the_pixels_that_pillow_decodes(options: dict[str, object]) -> None:
    data = encoded(SCENE, "JPEG", **options)
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(BytesIO(data))))


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_coloured_jpeg_becomes_grey(mode: str) -> None:
    colours = Image.fromarray(np.dstack([SCENE // 2, SCENE, 255 - SCENE])).resize((140, 180)).convert(mode)
    file = BytesIO()
    colours.save(file, "JPEG", quality=100, subsampling=0)
    expected = np.asarray(colours.convert("RGB").convert("L"), dtype=np.int64)
    difference = np.abs(decode(file.getvalue()) - expected)
    assert difference.max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_images_stand_upright_and_the_header_says_so(tmp_path: Path, kind: str, orientation: int) -> None:
    path = tmp_path / "a.png"
    smooth = np.add.outer(np.arange(90), np.arange(70)).astype(np.uint8)
    smooth[:20] = 0
    path.write_bytes(turned(smooth, kind, orientation))
    with Image.open(BytesIO(path.read_bytes())) as image:
        shown = np.asarray(ImageOps.exif_transpose(image).convert("L"))
    pixels = read_pixels(path)
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, shown)
    assert read_size_hw(path) == shown.shape == ((90, 70) if orientation < 5 else (70, 90))
    assert read_header(path) == (shown.shape, orientation > 1 and kind != "TIFF")


@pytest.mark.parametrize("orientation", [1, 6])
def test_an_orientation_after_the_pixels_is_refused(orientation: int) -> None:
    data = encoded(SCENE, "PNG")
    exif = Image.Exif()
    exif[0x0112] = orientation
    late = data[:-12] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + data[-12:]
    with Image.open(BytesIO(late)) as image:
        assert ImageOps.exif_transpose(image).size == ((70, 90) if orientation == 1 else (90, 70))
    if orientation == 1:
        np.testing.assert_array_equal(decode(late), SCENE)
    else:
        with pytest.raises(UserError, match="orientation"):
            decode(late)


@pytest.mark.parametrize("exif", [b"", b"Exif", b"MM\0*\0\0\0\xff", b"\0" * 40])
def test_unreadable_exif_data_turns_nothing(exif: bytes) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in SCENE)
    np.testing.assert_array_equal(decode(png(SCENE.shape, rows, before=chunk(b"eXIf", exif))), SCENE)


def test_every_changed_bit_of_a_png_is_found_or_changes_no_pixel() -> None:
    data = png((3, 40), b"".join(b"\0" + bytes(range(n, n + 40)) for n in (0, 50, 100)))
    expected = decode(data)
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UserError, match=r"\ba\b"):
            np.testing.assert_array_equal(decode(bytes(broken)), expected)
            raise UserError("a: the same pixels")


def test_a_zeroed_block_of_a_jpeg_is_found() -> None:
    data = bytearray(encoded(np.tile(SCENE, (4, 4)), "JPEG"))
    data[len(data) // 2 : len(data) // 2 + 4096] = bytes(4096)
    with pytest.raises(UserError, match="Corrupt JPEG data"):
        decode(bytes(data))


def test_changed_bits_of_a_jpeg_are_found_where_libjpeg_warns() -> None:
    data = encoded(np.kron(SCENE[:20, :30], np.ones((20, 20), dtype=np.uint8)), "JPEG", quality=90)
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(60):
        broken = bytearray(data)
        broken[rng.integers(700, len(data) - 4)] ^= 1 << rng.integers(8)
        try:
            decode(bytes(broken))
        except UserError:
            found += 1
    assert found >= 25


@pytest.mark.parametrize(("side", "bits"), [(40_000, 8), (32_000, 1), (13_400, 16), (2**31 - 1, 8), (0, 8)])
def test_a_claim_of_many_pixels_is_refused_before_decoding(tmp_path: Path, side: int, bits: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png((side, side), b"\0" * 99, bits=bits))
    with pytest.raises(UserError, match=r"a\.png"):
        read_pixels(path)


def test_the_size_of_a_large_image_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png((13_400, 14_000), b""))
    assert read_size_hw(tmp_path / "a.png") == (13_400, 14_000)


@pytest.mark.parametrize("kind", ["iCCP", "tEXt", "zTXt", "iTXt", "sPLT", "pCAL", "sCAL", "tIME", "gAMA", "acTL"])
def test_parts_that_are_no_pixels_write_nothing(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    profile = struct.pack(">I", 400) + bytes(range(256)) + bytes(140)  # its size is right, the rest is not
    content = b"Doe^Anna\0\0" + zlib.compress(profile)
    rows = b"".join(b"\0" + row.tobytes() for row in SCENE)
    np.testing.assert_array_equal(decode(png(SCENE.shape, rows, before=chunk(kind.encode(), content))), SCENE)
    assert tuple(capfd.readouterr()) == ("", "")


def test_an_unknown_part_that_a_decoder_needs_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="unknown part b'ANNA'"):
        decode(png((2, 3), b"\0abc\0def", before=chunk(b"ANNA", b"Doe")))
    assert tuple(capfd.readouterr()) == ("", "")


def test_too_many_parts_are_refused() -> None:
    parts = chunk(b"tEXt", b"") * 2**17
    with pytest.raises(UserError, match="parts"):
        decode(png((2, 3), b"\0abc\0def", before=parts))


@pytest.mark.parametrize("kind", ["iCCP", "zTXt", "iTXt"])
def test_a_compressed_text_does_not_inflate(kind: str) -> None:
    bomb = encoded(np.zeros((3000, 3000), dtype=np.uint8), "PNG")  # its content is never looked at
    content = b"name\0\0" + bomb
    rows = b"".join(b"\0" + row.tobytes() for row in SCENE)
    np.testing.assert_array_equal(decode(png(SCENE.shape, rows, before=chunk(kind.encode(), content))), SCENE)


@pytest.mark.parametrize("level", [0, 7, 255])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_one_grey_level_is_no_image(kind: str, level: int) -> None:
    with pytest.raises(UserError, match="all its pixels are equal"):
        decode(encoded(np.full((30, 20), level, dtype=np.uint8), kind))


def test_a_single_other_pixel_makes_an_image() -> None:
    pixels = np.zeros((300, 200), dtype=np.uint8)
    pixels[7, 3] = 1
    np.testing.assert_array_equal(decode(encoded(pixels, "PNG")), pixels)


def test_a_blank_half_is_no_image(tmp_path: Path) -> None:
    pixels = np.zeros((30, 20), dtype=np.uint8)
    pixels[:, 15] = 9
    (tmp_path / "a.png").write_bytes(encoded(pixels, "PNG"))
    assert read_pixels(tmp_path / "a.png", region="right_mirrored")[0].tolist() == [0, 0, 0, 0, 9, 0, 0, 0, 0, 0]
    with pytest.raises(UserError, match=r"a\.png.*equal"):
        read_pixels(tmp_path / "a.png", region="left")


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_floats_that_are_not_finite_are_refused(value: float) -> None:
    pixels = np.linspace(0, 9, 600, dtype=np.float32).reshape(30, 20)
    np.testing.assert_allclose(decode(encoded(pixels, "TIFF")), pixels / 9, atol=1e-6)
    pixels[3, 4] = value
    with pytest.raises(UserError, match="not finite"):
        decode(encoded(pixels, "TIFF"))


@pytest.mark.parametrize(("bits", "colour", "num_bytes"), [(16, 6, 96), (16, 2, 72), (8, 6, 48), (16, 0, 24)])
def test_colours_of_many_bits_count_more(bits: int, colour: int, num_bytes: int) -> None:
    rows = 3 * (b"\0" + bytes(range(num_bytes // 3)))
    data = png((3, 4), rows, bits=bits, colour=colour)
    assert decode_pixels(data, "a", max_pixels=24).shape == (3, 4)
    if num_bytes > 48:
        with pytest.raises(UserError, match=f"{num_bytes} bytes"):
            decode_pixels(data, "a", max_pixels=12)
    else:
        assert decode_pixels(data, "a", max_pixels=12).shape == (3, 4)


def test_a_png_that_is_too_short_for_its_header_is_refused() -> None:
    data = bytearray(png((3, 4), b"\0abcd\0abce\0abcf"))
    data[16:24] = struct.pack(">II", 900, 900)
    with pytest.raises(UserError):
        decode(bytes(data))


@pytest.mark.parametrize("size_hw", [(2, 1), (1, 6), (5, 3), (4, 9), (90, 70)])
@pytest.mark.parametrize("bits", [1, 8, 16])
def test_an_interlaced_png_is_the_same_image(size_hw: tuple[int, int], bits: int) -> None:
    pixels = np.random.default_rng(2).integers(0, 2**bits, size_hw)
    pixels[0, 0], pixels[-1, -1] = 0, 1
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    passes = [pixels[y::dy, x::dx] for x, y, dx, dy in steps]
    rows = b"".join(b"\0" + packed_row(row, bits) for one in passes if one.size for row in one)
    plain = b"".join(b"\0" + packed_row(row, bits) for row in pixels)
    expected = pixels * 255 if bits == 1 else pixels
    np.testing.assert_array_equal(decode(png(size_hw, rows, bits=bits, is_interlaced=True)), expected)
    np.testing.assert_array_equal(decode(png(size_hw, plain, bits=bits)), expected)


def packed_row(row: np.ndarray, bits: int) -> bytes:
    return np.packbits(row.astype(bool)).tobytes() if bits == 1 else row.astype(f">u{bits // 8}").tobytes()


def test_what_follows_the_last_row_of_a_png_is_not_unpacked() -> None:
    packer = zlib.compressobj()
    start = packer.compress(b"".join(b"\0" + row.tobytes() for row in SCENE)) + packer.flush(zlib.Z_FULL_FLUSH)
    more = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)  # a MiB of zeros
    none = chunk(b"IDAT", zlib.compress(b""))
    data = png(SCENE.shape, b"").replace(none, chunk(b"IDAT", start + 2000 * more))
    begin = time.process_time()
    np.testing.assert_array_equal(decode(data), SCENE)
    assert time.process_time() - begin < 1

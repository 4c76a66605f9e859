"""TIFF and the other formats of Pillow: the values that their tags say, one page, and no damage that goes unnoticed."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr.config import UserError
from cxr.imaging.files import decode_pixels, read_size_hw
from tests.cxr.imaging.image_files import SCENE, encoded, tiff, zeroed

STRETCHED = (SCENE - SCENE.min()) / np.float32(SCENE.max() - SCENE.min())
LARGE = np.tile(SCENE, (5, 4))


def decode(data: bytes) -> np.ndarray:
    return decode_pixels(data, "a.tif", max_pixels=10**6)


def refused(data: bytes) -> str:
    with pytest.raises(UserError) as caught:
        decode(data)
    (problem,) = caught.value.problems
    assert problem.startswith("image: cannot decode a.tif: ")
    return problem


VALUES: dict[str, np.ndarray] = {
    "16 bits": SCENE.astype(np.uint16) * 257,
    "8 bits with a sign": (SCENE.astype(int) - 128).astype(np.int8),
    "16 bits with a sign": ((SCENE.astype(int) - 128) * 250).astype(np.int16),
    "32 bits": SCENE.astype(np.uint32) * 2**24,
    "32 bits with a sign": ((SCENE.astype(int) - 128) * 2**24).astype(np.int32),
    "small differences of large numbers": SCENE.astype(np.int32) + 2**30,
    "floats": SCENE.astype(np.float32) / 7,
}


@pytest.mark.parametrize(
    ("name", "white_is_zero"),
    [("8 bits", False), *((name, False) for name in VALUES), ("8 bits", True), ("16 bits", True), ("floats", True)],
)
def test_values_have_their_sign_and_bone_is_bright(name: str, white_is_zero: bool) -> None:
    image = decode(tiff(VALUES.get(name, SCENE), white_is_zero=white_is_zero)).astype(np.float64)
    image = (image - image.min()) / np.ptp(image)
    np.testing.assert_allclose(image, 1 - STRETCHED if white_is_zero else STRETCHED, atol=1e-6)


def test_white_is_zero_in_types_that_pillow_does_not_know_is_refused() -> None:
    for name in VALUES.keys() - {"16 bits", "floats"}:
        refused(tiff(VALUES[name], white_is_zero=True))


@pytest.mark.parametrize("name", ["16 bits", "16 bits with a sign", "32 bits with a sign", "floats"])
def test_the_other_byte_order_gives_the_same_image(name: str) -> None:
    np.testing.assert_array_equal(decode(tiff(VALUES[name], order=">")), decode(tiff(VALUES[name])))


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP"])
def test_a_second_image_is_refused(kind: str) -> None:
    other = Image.fromarray(255 - SCENE)
    options = {"save_all": True, "append_images": [other]} | ({"lossless": True} if kind == "WEBP" else {})
    assert "expected one" in refused(encoded(SCENE, kind, **options))


def test_a_reduced_copy_as_second_page_is_no_second_image() -> None:
    file = BytesIO()
    small = Image.fromarray(SCENE[::2, ::2])
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(SCENE).save(file, "TIFF", save_all=True, append_images=[small])
    np.testing.assert_array_equal(decode(file.getvalue()), SCENE)


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "jpeg", "packbits", "tiff_lzw"])
@pytest.mark.parametrize("start", [0.2, 0.5, 0.8])
def test_a_zeroed_block_of_a_packed_tiff_is_found(compression: str, start: float) -> None:
    data = encoded(LARGE, "TIFF", compression=compression)
    assert abs(decode(data).astype(int) - LARGE).max() <= (0 if compression != "jpeg" else 80)
    refused(zeroed(data, start=start))


@pytest.mark.parametrize("colours", ["RGB", "YCbCr", "CMYK", "1"])
@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "jpeg", "packbits"])
def test_sound_packed_tiffs_are_read(colours: str, compression: str) -> None:
    if compression == "jpeg" and colours == "1":
        return
    file = BytesIO()
    Image.fromarray(np.dstack([LARGE] * 3)).convert(colours).save(file, "TIFF", compression=compression)
    assert decode(file.getvalue()).shape == LARGE.shape


def test_formats_that_are_not_for_radiographs_are_refused(tmp_path: Path) -> None:
    for kind in ("EPS", "PDF", "ICO", "PCX", "TGA"):
        data = encoded(SCENE, kind)
        assert "not a PNG, JPEG or DICOM file" in refused(data)
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(UserError, match=r"a\.png"):
            read_size_hw(tmp_path / "a.png")

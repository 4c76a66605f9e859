"""DICOM files: compared with pydicom, and refused where the header contradicts the pixels."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from cxr.config import UserError
from cxr.imaging.files import decode_pixels, is_dicom, read_image, read_patient_and_study, read_size_hw
from tests.cxr.imaging.image_files import RAMP, SCENE, SIZE_HW, dicom, encoded, framed, table, zeroed

LIMIT = 10**6
STRETCHED = RAMP / np.float32(4095)


def decode(data: bytes) -> np.ndarray:
    return decode_pixels(data, "a.dcm", max_pixels=LIMIT)


def refused(data: bytes) -> str:
    with pytest.raises(UserError) as caught:
        decode(data)
    (problem,) = caught.value.problems
    assert problem.startswith("image: cannot decode a.dcm: ")
    assert "Doe" not in problem
    return problem


READ = {
    "693_J2KI.dcm", "CT_small.dcm", "J2K_pixelrep_mismatch.dcm", "JPEG2000.dcm", "JPEGLSNearLossless_08.dcm",
    "JPEGLSNearLossless_16.dcm", "JPGExtended.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm",
    "MR_small_expb.dcm", "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_padded.dcm", "examples_overlay.dcm", "image_dfl.dcm", "liver_1frame.dcm", "liver_expb_1frame.dcm",
    "rtdose_1frame.dcm", "rtdose_expb_1frame.dcm", "rtdose_rle_1frame.dcm",
}  # fmt: skip

REFUSED = {
    "ExplVR_BigEnd.dcm": "3 channels of RGB",
    "GDCMJ2K_TextGBR.dcm": "3 channels of YBR_RCT",
    "JPEG-lossy.dcm": "Invalid SOS parameters",
    "JPEG2000-embedded-sequence-delimiter.dcm": "in 1 channel, but the frame has",
    "MR_truncated.dcm": "8130 vs 8192 bytes",
    "SC_rgb_rle_2frame.dcm": "2 frames",
    "badVR.dcm": "'1A'",
    "empty_charset_LEI.dcm": "no image",
    "examples_palette.dcm": "PALETTE COLOR",
    "no_meta_group_length.dcm": "no image",
    "rtdose.dcm": "15 frames",
    "rtplan_truncated.dcm": "no image",
    "test-SR.dcm": "no image",
    "waveform_ecg.dcm": "no image",
}


@pytest.mark.parametrize("name", sorted(READ))
def test_files_of_many_encodings_are_equal_to_pydicoms(name: str) -> None:
    path = Path(get_testdata_file(name, download=False))
    file = pydicom.dcmread(path)
    values = np.asarray(apply_voi_lut(apply_modality_lut(file.pixel_array, file), file, index=0), dtype=np.float64)
    expected = (values - values.min()) / (values.max() - values.min())
    image = read_image(path)
    np.testing.assert_allclose(
        image, 1 - expected if file.PhotometricInterpretation == "MONOCHROME1" else expected, atol=1e-6
    )
    assert read_size_hw(path) == image.shape


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_no_grey_image_are_refused_by_name(name: str) -> None:
    with pytest.raises(UserError, match=name.replace("-", ".")) as caught:
        read_image(Path(get_testdata_file(name, download=False)))
    assert REFUSED[name] in str(caught.value)


@pytest.mark.parametrize("pixels", [RAMP, (RAMP.astype(np.int32) - 2048).astype(np.int16)], ids=["unsigned", "signed"])
@pytest.mark.parametrize("tiles", [1, 8])
def test_both_byte_orders_give_the_same_image(pixels: np.ndarray, tiles: int) -> None:
    whole = np.tile(pixels, (tiles, tiles))
    expected = np.tile(STRETCHED, (tiles, tiles))
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        np.testing.assert_allclose(decode(dicom(whole, syntax=syntax)), expected, atol=1e-6)


@pytest.mark.parametrize("encoding", [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("name", ["scan.dcm", "IM0001", "scan.png"])
def test_files_without_the_128_bytes_in_front_are_read(tmp_path: Path, name: str, encoding: tuple[bool, bool]) -> None:
    is_implicit, is_little = encoding
    file = pydicom.dcmread(BytesIO(dicom(RAMP)))
    del file.file_meta
    file.PixelData = RAMP.astype("<u2" if is_little else ">u2").tobytes()
    bare = pydicom.Dataset(file)
    bare.save_as(tmp_path / name, implicit_vr=is_implicit, little_endian=is_little)
    assert (tmp_path / name).read_bytes()[128:132] != b"DICM"
    np.testing.assert_allclose(read_image(tmp_path / name), STRETCHED, atol=1e-6)
    assert read_size_hw(tmp_path / name) == SIZE_HW
    assert is_dicom(tmp_path / name) == (name != "scan.png")


def test_other_files_are_not_taken_for_dicom(tmp_path: Path) -> None:
    for number, content in enumerate([b"", b"\x08\0", b"\x08\0\x05\0text", b"image,label\n", bytes(200)]):
        path = tmp_path / f"file{number}"
        path.write_bytes(content)
        assert not is_dicom(path)


def test_the_content_decides_not_the_ending(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(encoded(SCENE, "PNG"))
    np.testing.assert_allclose(read_image(tmp_path / "a.dcm"), SCENE / np.float32(255))
    assert read_size_hw(tmp_path / "a.dcm") == (90, 70)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"SamplesPerPixel": 3, "PlanarConfiguration": 0}, "3 channels"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
        ({"PhotometricInterpretation": None}, "None"),
        ({"Rows": 25}, "expected"),
        ({"Rows": 23}, "bytes more"),
        ({"Columns": 20}, "bytes more"),
        ({"Rows": 60000, "Columns": 60000}, "60000 x 60000"),
        ({"Rows": 0}, "40 x 0"),
        ({"Rows": None}, "no image"),
        ({"PixelData": None}, "no pixels"),
        ({"PixelData": b""}, "no pixels"),
        ({"BitsAllocated": 12}, "12"),
        ({"BitsAllocated": None}, "BitsAllocated"),
        ({"BitsStored": 17}, "17 of 16 bits"),
        ({"BitsStored": 12}, "highest is 15"),
        ({"PixelRepresentation": None}, "Pixel"),
    ],
)
def test_headers_that_contradict_the_pixels_are_refused(tags: dict[str, object], reason: str) -> None:
    assert reason in refused(dicom(RAMP, **tags))


def test_zeros_that_fill_up_the_last_block_are_no_pixels() -> None:
    np.testing.assert_allclose(decode(dicom(RAMP, PixelData=RAMP.tobytes() + bytes(512))), STRETCHED, atol=1e-6)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_a_deflated_file_that_was_cut_is_refused(share: float) -> None:
    data = dicom(SCENE, syntax=DeflatedExplicitVRLittleEndian)
    assert decode(data).shape == SCENE.shape
    refused(data[: int(share * len(data))])


def test_a_deflated_file_does_not_inflate_without_limit() -> None:
    data = dicom(SCENE, syntax=DeflatedExplicitVRLittleEndian)
    start = data.index(b"1.2.840.10008.1.2.1.99") + 22
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(bytes(10**8)) + packer.flush()
    assert "inflates to more" in refused(data[:start] + bomb)


def j2k(pixels: np.ndarray) -> bytes:
    return encoded(pixels, "JPEG2000", irreversible=False, no_jp2=True)


def test_compressed_frames_have_their_pixels() -> None:
    expected = (SCENE - SCENE.min()) / np.float32(SCENE.max() - SCENE.min())
    np.testing.assert_allclose(decode(framed(j2k(SCENE), SCENE.shape, JPEG2000Lossless)), expected, atol=1e-6)
    assert decode(framed(encoded(SCENE, "JPEG"), SCENE.shape, JPEGBaseline8Bit)).shape == SCENE.shape


@pytest.mark.parametrize("size_hw", [(70, 90), (45, 140), (89, 70)])
def test_a_frame_of_another_size_is_refused(size_hw: tuple[int, int]) -> None:
    for frame, syntax in ((j2k(SCENE), JPEG2000Lossless), (encoded(SCENE, "JPEG"), JPEGBaseline8Bit)):
        assert "but the frame has 70 x 90" in refused(framed(frame, size_hw, syntax))


def test_a_frame_of_colours_is_refused() -> None:
    colours = np.dstack([SCENE, SCENE, SCENE])
    for frame, syntax in ((j2k(colours), JPEG2000Lossless), (encoded(colours, "JPEG"), JPEGBaseline8Bit)):
        assert "in 3" in refused(framed(frame, SCENE.shape, syntax))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_frame_that_was_cut_is_refused(share: float) -> None:
    names = {"MR_small_jpeg_ls_lossless.dcm": JPEGLSLossless, "MR_small_RLE.dcm": RLELossless}
    for name, syntax in names.items():
        file = pydicom.dcmread(get_testdata_file(name, download=False))
        frame = pydicom.encaps.get_frame(file.PixelData, 0, number_of_frames=1)
        refused(framed(frame[: int(share * len(frame))], (64, 64), syntax, bits=16))
    for frame, syntax in ((j2k(SCENE), JPEG2000Lossless), (encoded(SCENE, "JPEG"), JPEGBaseline8Bit)):
        refused(framed(frame[: int(share * len(frame))], SCENE.shape, syntax))


def test_damaged_jpeg_data_inside_dicom_is_found() -> None:
    large = np.tile(SCENE, (4, 4))
    frame = bytearray(encoded(large, "JPEG"))
    frame[len(frame) // 2 : len(frame) // 2 + 4096] = bytes(4096)
    assert "Corrupt JPEG data" in refused(framed(bytes(frame), large.shape, JPEGBaseline8Bit))


def real_frame(name: str) -> tuple[pydicom.FileDataset, bytes]:
    file = pydicom.dcmread(get_testdata_file(name))
    return file, pydicom.encaps.get_frame(file.PixelData, 0, number_of_frames=1)


@pytest.mark.parametrize("start", [0.3, 0.5, 0.8])
@pytest.mark.parametrize(
    "name",
    [
        "JPGExtended.dcm",  # 12 bits
        "JPEG-LL.dcm",  # lossless, 16 bits
        "JPGLosslessP14SV1_1s_1f_8b.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "JPEGLSNearLossless_16.dcm",
        "MR_small_RLE.dcm",
    ],
)
def test_damaged_data_of_other_compressions_is_found(name: str, start: float) -> None:
    file, frame = real_frame(name)
    file.PixelData = pydicom.encaps.encapsulate([frame])
    file["PixelData"].is_undefined_length = True
    assert decode(bytes_of(file)).shape == (file.Rows, file.Columns)
    for damaged in (zeroed(frame, start=start), frame[: int(start * len(frame))] + b"\xff\xd9"):
        file.PixelData = pydicom.encaps.encapsulate([damaged])
        refused(bytes_of(file))


def test_changed_bits_of_a_jpeg_ls_frame_are_found() -> None:
    file, frame = real_frame("MR_small_jpeg_ls_lossless.dcm")
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(40):
        broken = bytearray(frame)
        broken[rng.integers(100, len(frame) - 4)] ^= 1 << rng.integers(8)
        file.PixelData = pydicom.encaps.encapsulate([bytes(broken)])
        try:
            decode(bytes_of(file))
        except UserError:
            found += 1
    assert found >= 35


def bytes_of(file: pydicom.FileDataset) -> bytes:
    written = BytesIO()
    file.save_as(written)
    return written.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_frame_of_very_many_scans_is_refused(progressive: bool) -> None:
    frame = encoded(SCENE, "JPEG", progressive=progressive)
    scan = frame[frame.rindex(b"\xff\xda") : -2]
    assert decode(framed(frame, SCENE.shape, JPEGBaseline8Bit)).shape == SCENE.shape
    assert "scan" in refused(framed(frame[:-2] + 101 * scan + frame[-2:], SCENE.shape, JPEGBaseline8Bit))


def test_a_sequence_nested_without_end_is_refused() -> None:
    head = dicom(RAMP)[:132] + dicom(RAMP)[132 : 132 + 12 + struct.unpack("<I", dicom(RAMP)[140:144])[0]]
    item = struct.pack("<HH2sHIHHI", 0x0028, 0x3000, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    refused(head + item * 20_000)


def items(number: int, group: int, element: int) -> bytes:
    """A sequence of empty items."""
    head = struct.pack("<HH2sHI", group, element, b"SQ", 0, 0xFFFFFFFF)
    return head + number * struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


PIXELS_TAG = struct.pack("<HH", 0x7FE0, 0x0010)


@pytest.mark.parametrize(
    ("syntax", "added"),
    [
        (ExplicitVRLittleEndian, items(60_000, 0x0028, 0x3010)),
        (ExplicitVRLittleEndian, items(60_000, 0x0029, 0x1010)),
        (ExplicitVRLittleEndian, 101_000 * struct.pack("<HH2sH", 0x0029, 0x1010, b"LO", 0)),
        (DeflatedExplicitVRLittleEndian, 101_000 * struct.pack("<HH2sH", 0x0029, 0x1010, b"LO", 0)),
    ],
)
def test_a_header_of_very_many_parts_is_refused(syntax: pydicom.uid.UID, added: bytes) -> None:
    data = dicom(RAMP, syntax=syntax)
    if syntax == ExplicitVRLittleEndian:
        at = data.index(PIXELS_TAG)
        refused(data[:at] + added + data[at:])
        return
    start = 144 + struct.unpack_from("<I", data, 140)[0]  # after the file meta information
    inside = zlib.decompress(data[start:], -15)
    at = inside.index(PIXELS_TAG)
    packer = zlib.compressobj(wbits=-15)
    refused(data[:start] + packer.compress(inside[:at] + added + inside[at:]) + packer.flush())


def test_a_table_larger_than_all_greys_is_refused() -> None:
    data = dicom(RAMP, VOILUTSequence=table(0, 16, np.arange(4096)))
    assert decode(data).shape == RAMP.shape
    head = struct.pack("<HH2sHI", 0x0028, 0x3010, b"SQ", 0, 2**22 + 8)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 2**22) + bytes(2**22)
    at = dicom(RAMP).index(PIXELS_TAG)
    assert "VOILUTSequence" in refused(dicom(RAMP)[:at] + head + item + dicom(RAMP)[at:])


def test_a_frame_in_very_many_fragments_is_refused() -> None:
    file = pydicom.dcmread(BytesIO(framed(encoded(SCENE, "JPEG"), SCENE.shape, JPEGBaseline8Bit)))
    offsets, frame = file.PixelData[:12], file.PixelData[12:]
    for number in (3, 70_000):
        file.PixelData = offsets + number * struct.pack("<HHI", 0xFFFE, 0xE000, 0) + frame
        written = BytesIO()
        file.save_as(written)
        if number == 3:
            assert decode(written.getvalue()).shape == SCENE.shape
        else:
            refused(written.getvalue())


def test_patient_and_study_of_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(RAMP, PatientID="7", StudyInstanceUID="2.25.3"))
    assert read_patient_and_study(path) == ("7", "2.25.3")
    path.write_bytes(dicom(RAMP, syntax=DeflatedExplicitVRLittleEndian)[:400])
    with pytest.raises(UserError, match=r"a\.dcm"):
        read_patient_and_study(path)
    with pytest.raises(UserError, match=r"a\.dcm"):
        read_size_hw(path)

"""Pictures at their own bit depth, and DICOM greys looked up in a table: the same values in less time."""

from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from cxr.config import UserError
from cxr.imaging.files import min_max, read_image, read_patient_and_study, read_pixels
from cxr.phantom.dicom import DicomFacts, write_dicom

MANY, FEW = (90, 70), (5, 7)  # more pixels than stored values, and fewer


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_stay_as_the_file_has_them(tmp_path: Path, dtype: type) -> None:
    stored = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, size=(4, 6)).astype(dtype)
    assert cv2.imwrite(str(tmp_path / "a.png"), stored)
    pixels = read_pixels(tmp_path / "a.png")
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(pixels, stored)
    scaled = stored / np.float32(np.iinfo(dtype).max)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), scaled)


def test_halves_are_cut_and_lie_in_one_piece(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), np.arange(14, dtype=np.uint8).reshape(2, 7))
    right = read_pixels(tmp_path / "a.png", region="right_mirrored")
    assert right.tolist() == [[6, 5, 4], [13, 12, 11]]
    assert right.flags.c_contiguous


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*a\.png"):
        read_pixels(tmp_path / "a.png")


def dicom(path: Path, stored: np.ndarray, *, inverted: bool, **changes: object) -> Path:
    """A file with exactly these stored values; `changes` are entries of its header, None removes one."""
    facts = DicomFacts("1", sex="F", age=50, inverted=inverted, low=0, high=4095, pixel_spacing_mm=0.14)
    write_dicom(path, np.zeros(stored.shape, dtype=np.float32), facts)
    file = pydicom.dcmread(path)
    file.PixelData = stored.astype("<i2" if stored.dtype.kind == "i" else "<u2").tobytes()
    file.PixelRepresentation = int(stored.dtype.kind == "i")
    file.BitsStored, file.HighBit = 16, 15
    for name, value in changes.items():
        if value is None:
            delattr(file, name)
        else:
            setattr(file, name, value)
    file.save_as(path)
    return path


def by_definition(path: Path) -> np.ndarray:
    """Every pixel by itself through pydicom's tables."""
    file = pydicom.dcmread(path)
    values = apply_modality_lut(file.pixel_array, file)
    file.pop("RescaleSlope", None)  # pydicom turns the window around if it is negative
    image = min_max(apply_voi_lut(values, file, index=0))
    return 1 - image if file.PhotometricInterpretation == "MONOCHROME1" else image


def up_and_down() -> Dataset:
    """A table of grey values that rises and falls, as no window does: stored 100 is the brightest."""
    table = Dataset()
    table.LUTDescriptor = [201, 0, 16]
    table.LUTData = np.array([*range(0, 5000, 50), *range(5000, -1, -50)], dtype="<u2").tobytes()
    return table


CHANGES = {
    "window": {"WindowCenter": 120, "WindowWidth": 90},
    "no window": {"WindowCenter": None, "WindowWidth": None},
    "slope": {"RescaleSlope": "-1.5", "RescaleIntercept": "-9", "WindowCenter": -150, "WindowWidth": 200},
    "sigmoid": {"WindowCenter": 100, "WindowWidth": 30, "VOILUTFunction": "SIGMOID"},
    "table": {
        "WindowCenter": None,
        "WindowWidth": None,
        "RescaleSlope": None,
        "RescaleIntercept": None,
        "RescaleType": None,
        "VOILUTSequence": [up_and_down()],
    },
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("kind", ["uint16", "int16"])
@pytest.mark.parametrize("image_hw", [MANY, FEW])
def test_dicom_greys_are_the_same_to_the_bit(
    tmp_path: Path, changes: dict[str, object], inverted: bool, kind: str, image_hw: tuple[int, int]
) -> None:
    low = -60 if kind == "int16" else 3
    rng = np.random.default_rng(0)
    stored = rng.choice([low, low + 1, 40, 97, 99, 103, 150, 199, 240], size=image_hw).astype(kind)
    path = dicom(tmp_path / "a.dcm", stored, inverted=inverted, **changes)
    image = read_image(path)
    assert image.dtype == np.float32
    assert image.min() == 0 and image.max() == 1
    np.testing.assert_array_equal(image, by_definition(path))


@pytest.mark.parametrize("kind", ["uint16", "int16"])
def test_whole_range_of_16_bits(tmp_path: Path, kind: str) -> None:
    limits = np.iinfo(kind)
    stored = np.linspace(limits.min, limits.max, 70_000).round().astype(kind).reshape(350, 200)
    path = dicom(tmp_path / "a.dcm", stored, inverted=False, WindowCenter=None, WindowWidth=None)
    np.testing.assert_array_equal(read_image(path), by_definition(path))


def test_patient_and_study_are_read_from_the_header_alone(tmp_path: Path) -> None:
    stored = np.zeros(FEW, dtype=np.uint16)
    bare = dicom(tmp_path / "bare.dcm", stored, inverted=False, PatientID=None, StudyInstanceUID=None)
    assert read_patient_and_study(bare) == ("", "")
    full = dicom(tmp_path / "full.dcm", stored, inverted=False, PatientID=" 4711 ", StudyInstanceUID="1.2.3")
    assert read_patient_and_study(full) == ("4711", "1.2.3")
    assert cv2.imwrite(str(tmp_path / "a.png"), stored)
    assert read_patient_and_study(tmp_path / "a.png") == ("", "")
    (tmp_path / "broken.dcm").write_bytes(b"no DICOM")
    with pytest.raises(UserError, match=r"broken\.dcm"):
        read_patient_and_study(tmp_path / "broken.dcm")

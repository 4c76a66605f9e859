"""Several hundred broken files through every way into the decoders: a named error or the right image, nothing else."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, JPEG2000Lossless, JPEGBaseline8Bit

from cxr.config import UserError
from cxr.imaging import read_image
from cxr.imaging.cache_files import fingerprint_of
from cxr.imaging.files import decode_pixels, is_dicom, read_patient_and_study, read_pixels, read_size_hw
from tests.cxr.imaging.image_files import RAMP, SCENE, dicom, encoded, framed, table, turned
from tests.fuzzing import broken as drawn
from tests.fuzzing import check_all, num_cases

SOUND: dict[str, bytes] = {
    "png": encoded(SCENE, "PNG"),
    "png of 16 bits": encoded(SCENE.astype(np.uint16) * 9, "PNG"),
    "png on its side": turned(SCENE, "PNG", 6),
    "jpeg": encoded(SCENE, "JPEG"),
    "progressive jpeg": encoded(SCENE, "JPEG", progressive=True),
    "jpeg on its side": turned(SCENE, "JPEG", 8),
    "coloured jpeg": encoded(np.dstack([SCENE] * 3), "JPEG"),
    "tiff": encoded(SCENE, "TIFF"),
    "packed tiff": encoded(SCENE, "TIFF", compression="tiff_lzw"),
    "bmp": encoded(SCENE, "BMP"),
    "gif": encoded(SCENE, "GIF"),
    "webp": encoded(SCENE, "WEBP"),
    "dicom": dicom(RAMP, WindowCenter="2048", WindowWidth="4096"),
    "big-endian dicom": dicom(RAMP, syntax=ExplicitVRBigEndian),
    "deflated dicom": dicom(RAMP, syntax=DeflatedExplicitVRLittleEndian),
    "dicom with tables": dicom(
        RAMP, ModalityLUTSequence=table(0, 12, np.arange(4096)), VOILUTSequence=table(0, 12, np.arange(4096))
    ),
    "jpeg in dicom": framed(encoded(SCENE, "JPEG"), SCENE.shape, JPEGBaseline8Bit),
    "jpeg 2000 in dicom": framed(encoded(SCENE, "JPEG2000", no_jp2=True), SCENE.shape, JPEG2000Lossless),
}
HAS_CHECKSUMS = {"png", "png of 16 bits", "png on its side"}


def broken(data: bytes, name: str) -> Iterator[bytes]:
    """Cut files, files with blocks of zeros or noise, changed bytes near the start, and parts given twice."""
    rng = np.random.default_rng(sum(map(ord, name)))
    size = len(data)
    yield from (data[: int(share * size)] for share in (0.001, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99))
    for start in rng.integers(0, size - 40, 6):
        yield data[:start] + bytes(40) + data[start + 40 :]
        yield data[:start] + rng.bytes(40) + data[start + 40 :]
        yield data[:start] + data[start + 8 :]
        yield data[:start] + data[start - 20 : start] + data[start:]
    first = 132 if data[128:132] == b"DICM" else 0
    for at in rng.integers(first, min(size, first + 400), 20):
        changed = bytearray(data)
        changed[at] = rng.integers(256)
        yield bytes(changed)


WAYS: dict[str, Callable[[Path], object]] = {
    "read_image": read_image,
    "read_pixels": read_pixels,
    "left half": lambda path: read_pixels(path, region="left"),
    "decode_pixels": lambda path: decode_pixels(path.read_bytes(), path.name, max_pixels=10**6),
    "read_size_hw": read_size_hw,
    "is_dicom": is_dicom,
    "read_patient_and_study": read_patient_and_study,
    "fingerprint": lambda path: fingerprint_of(str(path)),
}


@pytest.mark.parametrize("kind", SOUND)
def test_broken_files_are_refused_by_name_or_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "sound").write_bytes(SOUND[kind])
    sound = read_pixels(tmp_path / "sound")
    num_refused = 0
    for number, data in enumerate(broken(SOUND[kind], kind)):
        path = tmp_path / f"broken{number}"
        path.write_bytes(data)
        for way, read in WAYS.items():
            try:
                result = read(path)
            except UserError as error:
                assert path.name in str(error), way
                num_refused += way == "read_pixels"
                continue
            if way == "read_pixels":
                assert isinstance(result, np.ndarray)
                assert result.ndim == 2 and result.size <= 10**6 and result.min() < result.max()
                assert kind not in HAS_CHECKSUMS or np.array_equal(result, sound)
    assert num_refused >= 15


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.dcm", "a"])
def test_what_never_ends_is_refused(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    (tmp_path / f"zero{name}").symlink_to("/dev/zero")
    for path in (tmp_path / name, tmp_path / f"zero{name}"):
        for way, read in WAYS.items():
            if way == "decode_pixels" or (way in ("is_dicom", "read_patient_and_study") and path.suffix):
                continue
            with pytest.raises(UserError, match=name):
                read(path)


@num_cases(6, 500)
@pytest.mark.parametrize("kind", ["png", "jpeg", "dicom", "dicom with tables", "jpeg in dicom", "jpeg 2000 in dicom"])
def test_drawn_edits_are_refused_by_name_or_read(tmp_path: Path, kind: str, cases: int) -> None:
    path = tmp_path / "broken"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        for way, read in WAYS.items():
            try:
                result = read(path)
            except UserError as error:
                assert path.name in str(error), way
                continue
            if way == "read_image":
                assert isinstance(result, np.ndarray)
                assert result.ndim == 2 and np.isfinite(result).all() and 0 <= result.min() < result.max() <= 1

    check_all(check, drawn(SOUND[kind]), cases=cases)

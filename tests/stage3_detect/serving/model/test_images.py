"""Decoding of uploads."""

import hashlib
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest

from cxr.config import UserError
from cxr.crashes import report_crashes
from cxr.imaging.files import read_pixels
from cxr.phantom.dicom import DicomFacts, write_dicom
from stage3_detect.serving.model.images import decode_image
from tests.crashing import DEADLY, crash_decoder, exit_code_of
from tests.cxr.imaging.image_files import encoded
from tests.stage3_detect.image_quality.test_rules import radiograph


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_bytes_decode_as_the_file_does(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), radiograph())
    data = path.read_bytes()
    decoded = decode_image(data, "a", max_pixels=10**6)
    np.testing.assert_array_equal(decoded.pixels, read_pixels(path))
    assert decoded.sha256 == hashlib.sha256(data).hexdigest()


def test_a_jpeg_with_very_many_scans_is_refused() -> None:
    data = cv2.imencode(".jpg", radiograph(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = data[data.rindex(b"\xff\xda") : -2]
    assert decode_image(data, "a", max_pixels=10**6).pixels.shape == (400, 320)
    with pytest.raises(UserError, match="scans"):
        decode_image(data[:-2] + 100 * last + data[-2:], "a", max_pixels=10**6)


def test_dicom_is_known_by_its_content(tmp_path: Path) -> None:
    facts = DicomFacts("1", sex="F", age=50, inverted=True, low=0, high=4095, pixel_spacing_mm=0.14)
    write_dicom(tmp_path / "a.dcm", radiograph().astype(np.float32) / 255, facts)
    decoded = decode_image((tmp_path / "a.dcm").read_bytes(), "no suffix", max_pixels=10**6)
    np.testing.assert_array_equal(decoded.pixels, read_pixels(tmp_path / "a.dcm"))


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x00" * 128 + b"DICM" + b"\x00" * 40, b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(UserError, match="the file"):
        decode_image(data, "scan7", max_pixels=10**6)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM"])
def test_formats_that_are_not_offered_are_refused(kind: str) -> None:
    with pytest.raises(UserError, match="PNG, JPEG or DICOM"):
        decode_image(encoded(radiograph(), kind), "a", max_pixels=10**6)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), np.zeros((300, 200), np.uint8))
    cut = (tmp_path / "a.png").read_bytes()[:60]  # a header without pixels
    with pytest.raises(UserError, match="200 x 300 pixels"):
        decode_image(cut, "a", max_pixels=59_999)
    with pytest.raises(UserError, match="cannot decode"):
        decode_image(cut, "a", max_pixels=60_000)


def test_a_crash_is_reported_with_the_hash_of_the_file_and_without_its_name(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = cv2.imencode(".png", radiograph())[1].tobytes() + DEADLY
    crash_decoder(monkeypatch)

    def work() -> None:
        report_crashes()
        decode_image(data, "Doe^Jane.png", max_pixels=10**6)

    assert exit_code_of(work) == -signal.SIGSEGV
    printed = capfd.readouterr().err
    assert hashlib.sha256(data[:65536]).hexdigest() in printed and f"{len(data)} bytes" in printed
    assert "Doe" not in printed

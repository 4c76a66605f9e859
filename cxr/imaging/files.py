"""Load grey images from PNG and JPEG files of 8 or 16 bits and from DICOM, whole or one half of them."""

from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Literal

import cv2
import numpy as np
import numpy.typing as npt

from cxr.config import UserError
from cxr.crashes import crash_file, read_named
from cxr.imaging.decoding import MAX_PIXELS, GrayImage, Pixels, UnusableError, check_contrast, decoding, min_max
from cxr.imaging.dicom import START_BYTES, dicom_size_hw, instance_uid, is_dicom_start, patient_and_study, read_dicom
from cxr.imaging.jpeg import JPEG_START
from cxr.imaging.raster import PNG_START, raster_header, read_raster
from cxr.input_files import open_regular, read_regular

__all__ = ["GrayImage", "Pixels", "min_max"]

Region = Literal["full", "left", "right_mirrored"]
"""The part of a file that is the image: all of it, its left half, or its right half mirrored, so that the midline is on
the right in both halves. If the width is odd, the middle column belongs to neither half, but of an image that is one
pixel wide to both."""

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic"})
RASTER_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
KIND_SUFFIXES = (".png", ".jpg", ".dcm")
"""What `kind_suffix` returns."""
_HASHED_BYTES = 65536
"""The hash of a whole file can take as long as its decoding."""


def read_image(path: Path, *, region: Region = "full") -> GrayImage:
    """Decode a grey image.

    PNG and JPEG values are divided by the maximum of their type. For DICOM the modality table, the window and, for
    MONOCHROME1, the inversion are applied; the result is stretched to [0, 1] by its own minimum and maximum.

    Returns:
        (H, W) float32 in [0, 1], bone bright, upright.

    Raises:
        UserError: as `read_pixels`.
    """
    pixels = read_pixels(path, region=region)
    return _scaled(pixels) if pixels.dtype.kind == "u" else pixels


def read_pixels(path: Path, *, region: Region = "full") -> Pixels:
    """Decode a grey image and keep the integers of the file, for callers that stretch the values themselves.

    Returns:
        (H, W): uint8 or uint16 of a PNG or JPEG, bone bright; otherwise float32 in [0, 1] as `read_image` returns it.

    Raises:
        UserError: the file is missing, damaged, of an unknown kind or too large, or all pixels of the region are equal.
    """
    return _decoded(read_regular(path), str(path), region=region, max_pixels=MAX_PIXELS)


def decode_pixels(data: bytes, name: str, *, max_pixels: int) -> Pixels:
    """Decode the bytes of an image file that is not on disk. The record of a crash has their hash in place of a name.

    Args:
        name: what error messages call the file.
        max_pixels: an image with more is refused before its pixels are decoded.

    Returns:
        (H, W), as `read_pixels`.

    Raises:
        UserError: as `read_pixels`.
    """
    identity = f"of {len(data)} bytes, SHA-256 of the first {_HASHED_BYTES}: {sha256(data[:_HASHED_BYTES]).hexdigest()}"
    if crash_file(identity):
        raise UserError(f"image: {name} crashed its decoder before, so it is not decoded; export it in another format")
    return _decoded(data, name, region="full", max_pixels=max_pixels, identity=identity)


def _decoded(data: bytes, name: str, *, region: Region, max_pixels: int, identity: str | None = None) -> Pixels:
    """The content decides whether a file is DICOM, not its ending. identity: of the file in the record of a crash; its
    name if None."""
    read = read_dicom if is_dicom_start(data[:START_BYTES]) else read_raster
    with decoding(name):
        if record := crash_file(name):
            raise UnusableError(f"its decoder crashed in an earlier call; repair or remove it, then delete {record}")
        pixels = read_named(identity or name, lambda: read(data, max_pixels=max_pixels))
        part = np.ascontiguousarray(cut_region(pixels, region))
        check_contrast(part)
    return part


def is_dicom(path: Path) -> bool:
    """True for a DICOM file, by its suffix or, for an unknown suffix, by its first bytes.

    A PACS often exports files without a suffix.

    Raises:
        UserError: the first bytes are needed and the file cannot be opened.
    """
    suffix = path.suffix.lower()
    if suffix in DICOM_SUFFIXES or suffix in RASTER_SUFFIXES:
        return suffix in DICOM_SUFFIXES
    with open_regular(path) as file:
        return is_dicom_start(file.read(START_BYTES))


def kind_suffix(data: bytes) -> str | None:
    """The suffix for the bytes of a PNG, JPEG or DICOM file, by how they begin; None for any other content."""
    if is_dicom_start(data[:START_BYTES]):
        return ".dcm"
    starts = {".png": PNG_START, ".jpg": JPEG_START}
    return next((suffix for suffix, start in starts.items() if data.startswith(start)), None)


def cut_region(image: Pixels, region: Region) -> Pixels:
    """The region of an image (H, W), as a view."""
    half = _half_of(image.shape[1])
    if region == "left":
        return image[:, :half]
    if region == "right_mirrored":
        return image[:, image.shape[1] - half :][:, ::-1]
    return image


def _half_of(width: int) -> int:
    return max(width // 2, 1)


def read_size_hw(path: Path, *, region: Region = "full") -> tuple[int, int]:
    """Height and width of the region of the upright image in pixels, read from the file's header alone.

    Raises:
        UserError: the file is missing or its header cannot be read.
    """
    height, width = read_header(path)[0]
    return (height, width) if region == "full" else (height, _half_of(width))


def read_header(path: Path) -> tuple[tuple[int, int], bool]:
    """Height and width of the upright image, and whether its EXIF data turns or mirrors what is stored.

    Raises:
        UserError: as `read_size_hw`.
    """
    with open_regular(path) as file, decoding(str(path)):
        return (dicom_size_hw(file), False) if _begins_as_dicom(file) else raster_header(file)


def read_patient_and_study(path: Path) -> tuple[str, str]:
    """Patient ID and study UID of a DICOM file; "" where it does not say, and for other files.

    Raises:
        UserError: the file is missing or its header cannot be read.
    """
    if not is_dicom(path):
        return "", ""
    with open_regular(path) as file, decoding(str(path)):
        return patient_and_study(file)


def read_instance_uid(path: Path) -> str:
    """SOP instance UID of a DICOM file; "" where it does not say, and for other files.

    Raises:
        UserError: the file is missing or its header cannot be read.
    """
    if not is_dicom(path):
        return ""
    with open_regular(path) as file, decoding(str(path)):
        return instance_uid(file)


def _begins_as_dicom(file: BinaryIO) -> bool:
    start = file.read(START_BYTES)
    file.seek(0)
    return is_dicom_start(start)


def write_png8(path: Path, image: GrayImage) -> None:
    """Write an image (H, W) in [0, 1] as an 8-bit PNG; values outside are clipped.

    Raises:
        UserError: the file cannot be written.
    """
    write_png(path, np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))


def write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Write a PNG of (H, W), or of (H, W, 3) in the order RGB, with OpenCV's fast compression.

    Python writes the file: OpenCV crashes on names that are not UTF-8.

    Raises:
        UserError: the file cannot be written.
    """
    stored = pixels if pixels.ndim == 2 else pixels[:, :, ::-1]
    _, data = cv2.imencode(".png", stored)
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise UserError(f"image: cannot write {path}: {error.strerror}; check the folder and the free space") from None


def _scaled(pixels: Pixels) -> GrayImage:
    return np.asarray(pixels / np.float32(np.iinfo(pixels.dtype).max), dtype=np.float32)

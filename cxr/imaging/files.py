"""Load grey images from PNG and JPEG files of 8 or 16 bits and from DICOM, whole or one half of them."""

import struct
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image, UnidentifiedImageError
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from cxr.config import UserError

Region = Literal["full", "left", "right_mirrored"]
"""The part of a file that is the image: all of it, its left half, or its right half mirrored, so that the midline is on
the right in both halves. If the width is odd, the middle column belongs to neither half."""

GrayImage = npt.NDArray[np.float32]

Pixels = npt.NDArray[Any]
"""(H, W) uint8, uint16 or float32."""

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic"})
RASTER_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
_DICOM_MARK, _DICOM_MARK_AT = b"DICM", 128
_ROWS_AT_ONCE = 64


def read_image(path: Path, *, region: Region = "full") -> GrayImage:
    """Decode a grey image.

    PNG and JPEG values are divided by the maximum of their type. For DICOM the modality table, the window and, for
    MONOCHROME1, the inversion are applied; the result is stretched to [0, 1] by its own minimum and maximum.

    Returns:
        (H, W) float32 in [0, 1], bone bright.

    Raises:
        UserError: the file is missing or cannot be decoded.
    """
    pixels = read_pixels(path, region=region)
    return _scaled(pixels) if pixels.dtype.kind == "u" else pixels


def read_pixels(path: Path, *, region: Region = "full") -> Pixels:
    """Decode a grey image and keep the integers of the file, for callers that stretch the values themselves.

    Returns:
        (H, W): uint8 or uint16 of a PNG or JPEG, bone bright; otherwise float32 in [0, 1] as `read_image` returns it.

    Raises:
        UserError: the file is missing or cannot be decoded.
    """
    if not path.is_file():
        raise UserError(f"image: no file {path}; check the data set's root and the table's path column")
    data = path.read_bytes()
    pixels = _read_dicom(data, str(path)) if is_dicom(path) else _read_raster(data, str(path))
    return np.ascontiguousarray(cut_region(pixels, region))


def decode_pixels(data: bytes, name: str, *, max_pixels: int) -> Pixels:
    """Decode the bytes of an image file that is not on disk; DICOM files are known by the mark in their header.

    Args:
        name: what error messages call the file.
        max_pixels: an image with more is refused before its pixels are decoded.

    Returns:
        (H, W), as `read_pixels`.

    Raises:
        UserError: the bytes cannot be decoded, or the image has no pixels or too many.
    """
    has_mark = data[_DICOM_MARK_AT : _DICOM_MARK_AT + len(_DICOM_MARK)] == _DICOM_MARK
    height, width = _dicom_size_hw(data, name) if has_mark else _raster_size_hw(data, name)
    if not 0 < height * width <= max_pixels:
        raise UserError(f"image: {name} has {width} x {height} pixels, expected 1 to {max_pixels} in total")
    return _read_dicom(data, name) if has_mark else _read_raster(data, name)


def is_dicom(path: Path) -> bool:
    """True for a DICOM file, by its suffix or, for an unknown suffix, by the mark in its header.

    A PACS often exports files without a suffix.

    Raises:
        UserError: the header is needed and the file cannot be opened.
    """
    suffix = path.suffix.lower()
    if suffix in DICOM_SUFFIXES or suffix in RASTER_SUFFIXES:
        return suffix in DICOM_SUFFIXES
    try:
        with path.open("rb") as file:
            return file.read(_DICOM_MARK_AT + len(_DICOM_MARK))[_DICOM_MARK_AT:] == _DICOM_MARK
    except OSError as error:
        raise UserError(f"image: cannot open {path}: {error.strerror}") from None


def cut_region(image: Pixels, region: Region) -> Pixels:
    """The region of an image (H, W), as a view."""
    half = image.shape[1] // 2
    if region == "left":
        return image[:, :half]
    if region == "right_mirrored":
        return image[:, image.shape[1] - half :][:, ::-1]
    return image


def read_size_hw(path: Path, *, region: Region = "full") -> tuple[int, int]:
    """Height and width of the region in pixels, read from the file's header alone.

    Raises:
        UserError: the file is missing or its header cannot be read.
    """
    if not path.is_file():
        raise UserError(f"image: no file {path}; check the data set's root and the table's path column")
    with path.open("rb") as file:
        height, width = _dicom_size_hw(file, str(path)) if is_dicom(path) else _raster_size_hw(file, str(path))
    return (height, width) if region == "full" else (height, width // 2)


def read_patient_and_study(path: Path) -> tuple[str, str]:
    """Patient ID and study UID of a DICOM file; "" where it does not say, and for other files.

    Raises:
        UserError: the file is missing or its header cannot be read.
    """
    if not is_dicom(path):
        return "", ""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID", "StudyInstanceUID"])
    except (InvalidDicomError, OSError) as error:
        raise UserError(f"image: cannot read the header of {path}: {error}") from None
    return str(header.get("PatientID") or "").strip(), str(header.get("StudyInstanceUID") or "")


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


def min_max(image: npt.NDArray[Any], *, low: float | None = None, high: float | None = None) -> GrayImage:
    """Stretch values from [low, high] to [0, 1]; by default from minimum to maximum. All zeros if high <= low."""
    low = float(image.min()) if low is None else low
    high = float(image.max()) if high is None else high
    if high <= low:
        return np.zeros(image.shape, dtype=np.float32)
    return ((image.astype(np.float32) - low) / (high - low)).astype(np.float32)


def _read_raster(data: bytes, name: str) -> Pixels:
    content = np.frombuffer(data, dtype=np.uint8)
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION) if data else None
    if pixels is None:
        raise UserError(f"image: cannot decode {name}; it is damaged, or not a PNG, JPEG or DICOM file")
    if pixels.ndim == 3:
        code = cv2.COLOR_BGRA2GRAY if pixels.shape[2] == 4 else cv2.COLOR_BGR2GRAY
        pixels = cv2.cvtColor(pixels, code)
    return pixels if pixels.dtype.kind == "u" else min_max(np.nan_to_num(pixels))


def _scaled(pixels: Pixels) -> GrayImage:
    return np.asarray(pixels / np.float32(np.iinfo(pixels.dtype).max), dtype=np.float32)


def _raster_size_hw(source: bytes | BinaryIO, name: str) -> tuple[int, int]:
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            return image.height, image.width
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, ImportError) as error:
        # ImportError: once ultralytics is loaded, Pillow's open is its own, which looks for a HEIF package here
        is_unknown = isinstance(error, ImportError | UnidentifiedImageError)
        reason = "it is damaged, or not a PNG, JPEG or DICOM file" if is_unknown else error
        raise UserError(f"image: cannot read the header of {name}: {reason}") from None


def _read_dicom(data: bytes, name: str) -> GrayImage:
    try:
        dicom = pydicom.dcmread(BytesIO(data))
        stored = dicom.pixel_array
        image = None if stored.ndim == 3 else _shown(stored, dicom)
    except (
        InvalidDicomError,
        AttributeError,
        RuntimeError,
        TypeError,
        ValueError,
        NotImplementedError,
        OSError,
        BytesLengthException,
        struct.error,
    ) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"image: cannot decode DICOM {name}: {reason}") from None
    if image is None:
        raise UserError(f"image: {name} has {stored.shape} pixels, expected one grey frame (H, W)")
    return image


def _shown(stored: npt.NDArray[Any], dicom: pydicom.Dataset) -> GrayImage:
    """Stored values to grey in [0, 1], bone bright.

    The grey of a pixel depends on its own value alone. If an image has more pixels than possible values, the greys are
    looked up in a table of all values between its minimum and maximum; the result is the same to the bit.
    """
    low, high = (int(stored.min()), int(stored.max())) if stored.dtype.kind in "ui" else (0, stored.size)
    if high - low >= stored.size:
        values = _windowed(stored, dicom)
        image = min_max(values)
        return 1 - image if _is_inverted(dicom) else image
    values = _windowed(np.arange(low, high + 1).astype(stored.dtype), dicom)
    # compared, not subtracted: differences of unsigned numbers would wrap around
    is_monotone = bool((values[1:] >= values[:-1]).all() or (values[1:] <= values[:-1]).all())
    # the image contains its lowest and highest stored value, but not always those between
    there = values[[0, -1]] if is_monotone else values[np.unique(stored).astype(np.int64) - low]
    table = min_max(values, low=float(there.min()), high=float(there.max()))
    if _is_inverted(dicom):
        table = 1 - table
    grey = np.empty(stored.shape, dtype=np.float32)
    kind = np.int64 if stored.dtype.kind == "i" else stored.dtype  # a signed difference may be too large for its type
    for top in range(0, len(stored), _ROWS_AT_ONCE):  # a few rows at once fit into the processor's cache
        index = np.subtract(stored[top : top + _ROWS_AT_ONCE], low, dtype=kind)
        np.take(table, index, out=grey[top : top + _ROWS_AT_ONCE], mode="clip")  # none is outside; "raise" would copy
    return grey


def _windowed(values: npt.NDArray[Any], dicom: pydicom.Dataset) -> npt.NDArray[Any]:
    return np.asarray(apply_voi_lut(apply_modality_lut(values, dicom), dicom, index=0))


def _is_inverted(dicom: pydicom.Dataset) -> bool:
    return bool(dicom.get("PhotometricInterpretation", "") == "MONOCHROME1")


def _dicom_size_hw(source: bytes | BinaryIO, name: str) -> tuple[int, int]:
    try:
        file = BytesIO(source) if isinstance(source, bytes) else source
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
        return int(header.Rows), int(header.Columns)
    except (InvalidDicomError, AttributeError, TypeError, ValueError, OSError) as error:
        raise UserError(f"image: cannot read the header of {name}: {error}") from None

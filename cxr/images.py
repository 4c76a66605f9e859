"""Pictures from disk as (H, W) float32 in [0, 1]: PNG and JPEG of 8 or 16 bit, DICOM; whole or one half."""

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image, UnidentifiedImageError
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from cxr.config import UserError

Region = Literal["full", "left", "right_mirrored"]
"""Part of the picture that counts as the image: all of it, its left half, or its right half flipped sideways (so
that in both halves the midline is on the right). With an odd width the middle column belongs to neither half."""

GrayImage = npt.NDArray[np.float32]

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic"})


def read_image(path: Path, *, region: Region = "full") -> GrayImage:
    """Decode a grey picture.

    Integer pictures are divided by their type's maximum; DICOM goes through the modality table, the window, and
    inversion where MONOCHROME1, and is then stretched to [0, 1] by its own minimum and maximum.

    Returns:
        (H, W) float32 in [0, 1], bone bright.

    Raises:
        UserError: the file is missing or cannot be decoded.
    """
    if not path.is_file():
        raise UserError(f"image: no file {path}; check the data set's root and the table's path column")
    image = _read_dicom(path) if path.suffix.lower() in DICOM_SUFFIXES else _read_raster(path)
    return np.ascontiguousarray(cut_region(image, region))


def cut_region(image: GrayImage, region: Region) -> GrayImage:
    """The part of (H, W) that `region` names, as a view."""
    half = image.shape[1] // 2
    if region == "left":
        return image[:, :half]
    if region == "right_mirrored":
        return image[:, image.shape[1] - half :][:, ::-1]
    return image


def read_size_hw(path: Path, *, region: Region = "full") -> tuple[int, int]:
    """Height and width of the region in pixels, from the file's header alone.

    Raises:
        UserError: the file is missing or its header cannot be read.
    """
    if not path.is_file():
        raise UserError(f"image: no file {path}; check the data set's root and the table's path column")
    is_dicom = path.suffix.lower() in DICOM_SUFFIXES
    height, width = _dicom_size_hw(path) if is_dicom else _raster_size_hw(path)
    return (height, width) if region == "full" else (height, width // 2)


def write_png8(path: Path, image: GrayImage) -> None:
    """Write (H, W) in [0, 1] as an 8-bit PNG."""
    pixels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    written = cv2.imwrite(str(path), pixels)
    if not written:
        raise UserError(f"image: cannot write {path}; check the folder and the free space")


def min_max(image: npt.NDArray[Any]) -> GrayImage:
    """Stretch to [0, 1] by minimum and maximum; a constant picture becomes zeros."""
    low, high = float(image.min()), float(image.max())
    if high <= low:
        return np.zeros(image.shape, dtype=np.float32)
    return ((image.astype(np.float32) - low) / (high - low)).astype(np.float32)


def _read_raster(path: Path) -> GrayImage:
    data = np.fromfile(path, dtype=np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
    if pixels is None:
        raise UserError(f"image: cannot decode {path}; it is damaged or no PNG, JPEG or DICOM file")
    if pixels.ndim == 3:
        code = cv2.COLOR_BGRA2GRAY if pixels.shape[2] == 4 else cv2.COLOR_BGR2GRAY
        pixels = cv2.cvtColor(pixels, code)
    if pixels.dtype.kind == "u":
        return np.asarray(pixels / np.float32(np.iinfo(pixels.dtype).max), dtype=np.float32)
    return min_max(np.nan_to_num(pixels))


def _raster_size_hw(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (UnidentifiedImageError, OSError, ValueError, ImportError) as error:
        # ImportError: once ultralytics is loaded, Pillow's open is its own, which looks for a HEIF package here
        reason = "unknown format" if isinstance(error, ImportError) else error
        raise UserError(f"image: cannot read the header of {path}: {reason}") from None


def _read_dicom(path: Path) -> GrayImage:
    try:
        dicom = pydicom.dcmread(path)
        pixels = dicom.pixel_array
        values = apply_voi_lut(apply_modality_lut(pixels, dicom), dicom, index=0)
    except (
        InvalidDicomError,
        AttributeError,
        RuntimeError,
        TypeError,
        ValueError,
        NotImplementedError,
        OSError,
        BytesLengthException,
    ) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"image: cannot decode DICOM {path}: {reason}") from None
    if values.ndim == 3:
        raise UserError(f"image: {path} has {values.shape} pixels, expected one grey frame (H, W)")
    image = min_max(values)
    if dicom.get("PhotometricInterpretation", "") == "MONOCHROME1":
        image = 1 - image
    return image


def _dicom_size_hw(path: Path) -> tuple[int, int]:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
        return int(header.Rows), int(header.Columns)
    except (InvalidDicomError, AttributeError, TypeError, ValueError, OSError) as error:
        raise UserError(f"image: cannot read the header of {path}: {error}") from None

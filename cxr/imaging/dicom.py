"""Decode DICOM radiographs of one grey frame. What the header claims is checked against the pixel data."""

import logging
import warnings
import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

from cxr.imaging.codestream import check_codestream, check_rle
from cxr.imaging.decoding import GrayImage, UnusableError, check_size
from cxr.imaging.dicom_greys import grey_of
from cxr.imaging.dicom_limits import LimitedFile, check_elements, check_fragments, check_tables

_MARK, _MARK_AT = b"DICM", 128
START_BYTES = _MARK_AT + len(_MARK)
"""Bytes at the start of a file that show whether it is DICOM."""

_FIRST_ELEMENTS = frozenset({0x0000, 0x0001, 0x0002, 0x0005, 0x0008, 0x0012, 0x0013, 0x0014, 0x0016, 0x0018})
"""Elements of group 0002 or 0008 with which a file without the 128 bytes before the mark begins."""

_PIXEL_TAGS = (
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PlanarConfiguration", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit", "DoubleFloatPixelPaddingValue",
    "DoubleFloatPixelPaddingRangeLimit",
    "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "VOILUTSequence", "VOILUTFunction", "WindowCenter",
    "WindowWidth", "PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)  # fmt: skip

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # its warnings show values without the file
for _library in ("pydicom", "pynetdicom", "highdicom"):  # their lines and warnings quote names of patients
    logging.getLogger(_library).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=rf"{_library}\b")

_SPARE_BYTES = 2**24
"""What an inflated file may have besides its pixels."""


def is_dicom_start(start: bytes) -> bool:
    """Whether the first `START_BYTES` of a file are those of DICOM, with or without the mark at byte 128."""
    if start[_MARK_AT:START_BYTES] == _MARK:
        return True
    if len(start) < 8:
        return False
    for order in ("little", "big"):
        group, element = (int.from_bytes(start[at : at + 2], order) for at in (0, 2))
        length = int.from_bytes(start[4:8], order)
        has_type = start[4:6].isalpha() and start[4:6].isupper()
        if group in (0x0002, 0x0008) and element in _FIRST_ELEMENTS and (has_type or length <= 128):
            return True
    return False


def read_dicom(data: bytes, *, max_pixels: int) -> GrayImage:
    """Decode the bytes of a DICOM file.

    Returns:
        (H, W) float32 in [0, 1], bone bright; see `grey_of`.

    Raises:
        Exception: the file is damaged, too large, or not one grey frame; see `decoding`.
    """
    _check_inflated(data, max_pixels=max_pixels)
    dicom = _header(BytesIO(data), _PIXEL_TAGS)
    _check_header(dicom, max_pixels=max_pixels)
    return grey_of(_stored(dicom), dicom)


def dicom_size_hw(file: BinaryIO) -> tuple[int, int]:
    """Height and width from the header alone. Exception as `read_dicom`."""
    return _size_hw(_header(file, ("Rows", "Columns"), stop_before_pixels=True))


def patient_and_study(file: BinaryIO) -> tuple[str, str]:
    """Patient ID and study UID; "" where the file does not say. Exception as `read_dicom`."""
    header = _header(file, ("PatientID", "StudyInstanceUID"), stop_before_pixels=True)
    return str(header.get("PatientID") or "").strip(), str(header.get("StudyInstanceUID") or "")


def instance_uid(file: BinaryIO) -> str:
    """SOP instance UID; "" where the file does not say. Exception as `read_dicom`."""
    return str(_header(file, ("SOPInstanceUID",), stop_before_pixels=True).get("SOPInstanceUID") or "")


def header_of(data: bytes, tags: Sequence[str]) -> pydicom.FileDataset:
    """The given elements of a DICOM file that `read_dicom` has accepted; no others are parsed. Exception as there."""
    return _header(BytesIO(data), tuple(tags), stop_before_pixels=True)


def _size_hw(header: pydicom.FileDataset) -> tuple[int, int]:
    if header.get("Rows") is None or header.get("Columns") is None:
        raise UnusableError("it holds no image")
    return int(header.Rows), int(header.Columns)


def _header(file: BinaryIO, tags: tuple[str, ...], *, stop_before_pixels: bool = False) -> pydicom.FileDataset:
    """Only the given elements: the others, such as the patient's name, are neither parsed nor named in warnings."""
    start = file.read(START_BYTES)
    file.seek(0)
    if not is_dicom_start(start):
        raise UnusableError("it does not begin as a DICOM file does")
    limited = LimitedFile(file)
    return pydicom.dcmread(limited, force=True, specific_tags=list(tags), stop_before_pixels=stop_before_pixels)


def _check_inflated(data: bytes, *, max_pixels: int) -> None:
    """UnusableError if a deflated file is cut off, or inflates to more than an image can have."""
    file = BytesIO(data)
    if data[_MARK_AT:START_BYTES] == _MARK:
        file.seek(START_BYTES)
    meta = read_dataset(
        LimitedFile(file),
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _vr, _length: tag >> 16 != 2,
    )
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    limit = 4 * max_pixels + _SPARE_BYTES
    content = inflate.decompress(data[file.tell() :], limit)
    if inflate.unconsumed_tail:
        raise UnusableError(f"it inflates to more than {limit} bytes")
    if not inflate.eof:
        raise UnusableError("it is cut off")
    check_elements(content)


def _check_header(dicom: pydicom.FileDataset, *, max_pixels: int) -> None:
    check_size(*_size_hw(dicom), max_pixels=max_pixels)
    frames, samples = int(dicom.get("NumberOfFrames") or 1), int(dicom.get("SamplesPerPixel") or 1)
    kind = dicom.get("PhotometricInterpretation")
    if frames != 1 or samples != 1 or kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnusableError(f"it has {frames} frames with {samples} channels of {kind}, expected one grey frame")
    if not any(dicom.get(name) for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UnusableError("it has no pixels")
    check_tables(dicom)
    allocated, stored = int(dicom.BitsAllocated), int(dicom.get("BitsStored") or dicom.BitsAllocated)
    high = dicom.get("HighBit")
    if not 0 < stored <= allocated or (high is not None and int(high) != stored - 1 and "PixelData" in dicom):
        raise UnusableError(f"its values have {stored} of {allocated} bits, the highest is {high}")


def _stored(dicom: pydicom.FileDataset) -> npt.NDArray[Any]:
    """(H, W) of the stored values, in the machine's byte order."""
    dicom.SamplesPerPixel = 1
    size_hw = _size_hw(dicom)
    _set_transfer_syntax(dicom)
    if dicom.file_meta.TransferSyntaxUID.is_encapsulated:
        check_fragments(dicom.PixelData)
        _check_frame(dicom, size_hw)
    elif "PixelData" in dicom:
        num_bytes = size_hw[0] * size_hw[1] * int(dicom.BitsAllocated) // 8 + 1  # one to make it even
        surplus = dicom.PixelData[num_bytes:]
        if surplus.strip(b"\0"):  # zeros fill up the last block
            raise UnusableError(f"it claims {size_hw[1]} x {size_hw[0]} pixels, but has {len(surplus)} bytes more")
        dicom.PixelData = dicom.PixelData[:num_bytes] if surplus else dicom.PixelData
    stored = np.asarray(dicom.pixel_array)
    if stored.shape != size_hw:
        raise UnusableError(f"it has {stored.shape} pixels, expected one grey frame {size_hw}")
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def _check_frame(dicom: pydicom.FileDataset, size_hw: tuple[int, int]) -> None:
    frame, syntax = get_frame(dicom.PixelData, 0, number_of_frames=1), dicom.file_meta.TransferSyntaxUID
    if syntax == RLELossless:
        check_rle(frame, size_hw, int(dicom.BitsAllocated) // 8)
        return
    check_codestream(frame, size_hw)
    if syntax in JPEGLSTransferSyntaxes:
        # pydicom would try another decoder where this one finds damage, and that one guesses
        dicom.pixel_array_options(decoding_plugin="pyjpegls")


def _set_transfer_syntax(dicom: pydicom.FileDataset) -> None:
    """Files without a file header do not say how they are encoded, but it was found out when they were read."""
    if dicom.file_meta.get("TransferSyntaxUID"):
        return
    is_implicit, is_little = dicom.original_encoding
    explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
    dicom.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit

"""Write an image as a 12-bit DICOM file with features of real files: MONOCHROME1 and windows."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from cxr.phantom.canvas import Layer

MAX_STORED = 4095
"""Largest value of 12 bits."""


@dataclass(frozen=True)
class DicomFacts:
    """The header of a DICOM file."""

    image_id: str
    sex: str
    """"F" or "M"."""
    age: int
    """Years."""
    inverted: bool
    """MONOCHROME1: stored values are low where the picture is bright."""
    low: int
    high: int
    """Stored values (before inversion) of black and white; the window is set to them."""
    pixel_spacing_mm: float


def write_dicom(path: Path, picture: Layer, facts: DicomFacts) -> None:
    """Write (H, W) in [0, 1], bone bright, as an uncompressed file of 12 bits a pixel."""
    values = np.round(facts.low + picture * (facts.high - facts.low)).astype(np.uint16)
    low, high = facts.low, facts.high
    if facts.inverted:
        values = np.asarray(MAX_STORED - values, dtype=np.uint16)
        low, high = MAX_STORED - high, MAX_STORED - low
    uid = _uid(facts.image_id)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, uid
    file.Modality, file.BodyPartExamined = "DX", "CHEST"
    file.PatientSex, file.PatientAge = facts.sex, f"{facts.age:03d}Y"
    file.Rows, file.Columns = values.shape
    file.SamplesPerPixel, file.PixelRepresentation = 1, 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    file.PhotometricInterpretation = "MONOCHROME1" if facts.inverted else "MONOCHROME2"
    file.PixelSpacing = [round(facts.pixel_spacing_mm, 4)] * 2
    file.RescaleSlope, file.RescaleIntercept, file.RescaleType = "1", "0", "US"
    # DICOM's linear window maps centre - 0.5 -/+ (width - 1) / 2 to the ends of the range
    file.WindowCenter, file.WindowWidth = (low + high + 1) / 2, high - low + 1
    file.PixelData = np.ascontiguousarray(values, dtype="<u2").tobytes()
    file.save_as(path, enforce_file_format=True)


def _uid(image_id: str) -> str:
    """A UID made from the id alone, so that the same settings write the same bytes."""
    digest = hashlib.sha256(image_id.encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"

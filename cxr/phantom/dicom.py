"""Write an image as a 12-bit DICOM file with features of real files: MONOCHROME1, windows, a patient and a study."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from cxr.phantom.canvas import Layer

MAX_STORED = 4095
"""Largest value of 12 bits."""

_STUDY_YEAR = 2026
"""Of all studies, so that the same settings write the same bytes."""


@dataclass(frozen=True)
class DicomFacts:
    """The header of a DICOM file. Patient and UIDs follow from the image's id: each image is a study of its own."""

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
    """Write (H, W) in [0, 1], bone bright, as an uncompressed file of 12 bits a pixel: digital radiography, PA view."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = _uid(facts.image_id)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    _add_patient_and_study(file, facts)
    _add_view(file)
    _add_pixels(file, picture, facts)
    file.save_as(path, enforce_file_format=True)


def _add_patient_and_study(file: Dataset, facts: DicomFacts) -> None:
    """A made-up patient with one study of one series of one image."""
    file.PatientID = f"PHANTOM-{facts.image_id}"[:64]
    file.PatientName = f"Phantom^{facts.image_id[:8]}"
    file.PatientSex, file.PatientAge = facts.sex, f"{facts.age:03d}Y"
    file.PatientBirthDate = f"{_STUDY_YEAR - facts.age}0101"
    file.StudyInstanceUID, file.SeriesInstanceUID = (_uid(f"{kind} {facts.image_id}") for kind in ("study", "series"))
    file.StudyDate = file.ContentDate = f"{_STUDY_YEAR}0101"
    file.StudyTime = file.ContentTime = "120000"
    file.ReferringPhysicianName, file.AccessionNumber, file.StudyID = "", "", "1"
    file.SeriesNumber = file.InstanceNumber = 1
    file.Manufacturer = "raybox phantom"


def _add_view(file: Dataset) -> None:
    """What the SOP class requires of the body part, the view and the detector."""
    region, view = Dataset(), Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "51185008", "SCT", "Chest"
    view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = "272479007", "SCT", "postero-anterior"
    view.ViewModifierCodeSequence = []
    file.Modality, file.PresentationIntentType, file.BodyPartExamined = "DX", "FOR PRESENTATION", "CHEST"
    file.AnatomicRegionSequence, file.ViewCodeSequence, file.ViewPosition = [region], [view], "PA"
    file.ImageLaterality, file.PatientOrientation, file.AcquisitionContextSequence = "U", ["L", "F"], []
    file.ImageType, file.DetectorType, file.PositionerType = ["DERIVED", "PRIMARY"], None, None
    file.DerivationDescription = "computer-generated image, shows no person"
    file.BurnedInAnnotation, file.LossyImageCompression = "NO", "00"


def _add_pixels(file: Dataset, picture: Layer, facts: DicomFacts) -> None:
    values = np.round(facts.low + picture * (facts.high - facts.low)).astype(np.uint16)
    low, high = facts.low, facts.high
    if facts.inverted:
        values = np.asarray(MAX_STORED - values, dtype=np.uint16)
        low, high = MAX_STORED - high, MAX_STORED - low
    file.Rows, file.Columns = values.shape
    file.SamplesPerPixel, file.PixelRepresentation = 1, 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    file.PhotometricInterpretation = "MONOCHROME1" if facts.inverted else "MONOCHROME2"
    file.PresentationLUTShape = "INVERSE" if facts.inverted else "IDENTITY"
    file.PixelIntensityRelationship, file.PixelIntensityRelationshipSign = "LOG", 1 if facts.inverted else -1
    file.PixelSpacing = file.ImagerPixelSpacing = [round(facts.pixel_spacing_mm, 4)] * 2
    file.RescaleSlope, file.RescaleIntercept, file.RescaleType = "1", "0", "US"
    # DICOM's linear window maps centre - 0.5 -/+ (width - 1) / 2 to the ends of the range
    file.WindowCenter, file.WindowWidth = (low + high + 1) / 2, high - low + 1
    file.PixelData = np.ascontiguousarray(values, dtype="<u2").tobytes()


def _uid(name: str) -> str:
    """A UID made from a name alone, so that the same settings write the same bytes."""
    digest = hashlib.sha256(name.encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"

"""A radiograph as a PACS has it, the boxes on it, and its results."""

from datetime import datetime
from io import BytesIO
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from stage3_detect.dicom_results.report import Occasion
from stage3_detect.dicom_results.result import Algorithm, ImageResult, image_result
from stage3_detect.dicom_results.source import SourceImage, read_source
from stage3_detect.image_quality.verdict import Quality
from stage3_detect.model.predictor import FoundBox

SIZE_HW = (320, 400)
STUDY, SERIES, IMAGE = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2", "1.2.826.0.1.3680043.8.498.3"
DX = "1.2.840.10008.5.1.4.1.1.1.1"

FINDINGS = ("Consolidation", "Pleural Effusion", "Mediastinal Shift")
FOUND = (
    FoundBox("Consolidation", (30.25, 40.5, 130.75, 170.0), 0.81, 0.62, True),
    FoundBox("Mediastinal Shift", (150.0, 20.0, 260.0, 300.0), 0.44, 0.31, True),
    FoundBox("Consolidation", (250.5, 60.0, 380.0, 200.125), 0.40, 0.27, True),
    FoundBox("Pleural Effusion", (10.0, 250.0, 90.0, 310.0), 0.05, 0.02, False),
)
ALGORITHM = Algorithm("yolo26n detector of test", "0.1.0", "5a" * 32, "half_fp", FINDINGS, synthetic=True)
NOON = Occasion(datetime(2026, 5, 4, 12, 30, 15))
GOOD, BAD, WARNED = Quality(True, ()), Quality.of(["small"], "abstain"), Quality.of(["small"], "warn")

REQUIRED_VALUES = {
    "PatientName": "Müller^Änne",
    "PatientID": "PID-4711",
    "PatientBirthDate": "19560417",
    "PatientSex": "F",
    "ReferringPhysicianName": "Zuweiser^Zita",
    "AccessionNumber": "ACC-0815",
    "StudyID": "ST-99",
    "StudyDate": "20260503",
    "StudyTime": "101112",
}
OTHER_VALUES = {
    "PatientAddress": "Geheimstrasse 12",
    "PatientTelephoneNumbers": "0123-456789",
    "OtherPatientIDs": "OTHER-ID-1",
    "PatientAge": "070Y",
    "PatientWeight": "71.55",
    "EthnicGroup": "ethnicgrp",
    "PatientComments": "comment on patient",
    "InstitutionName": "Klinik Nord",
    "InstitutionAddress": "Klinikweg 3",
    "OperatorsName": "Operator^Olga",
    "PerformingPhysicianName": "Arzt^Anton",
    "StudyDescription": "Thorax p.a. geheim",
    "SeriesDescription": "Serie geheim",
    "StationName": "STATION7",
    "DeviceSerialNumber": "SERIAL-77",
    "RequestingPhysician": "Anforderer^Anna",
    "ProtocolName": "Protokoll X",
    "ImageComments": "image comment",
}
"""Values that a result must not repeat."""


def dicom_bytes(**changes: Any) -> bytes:
    """A 12-bit MONOCHROME1 radiograph. A change of None removes an attribute."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = (
        *(DX, changes.get("SOPInstanceUID") or IMAGE),
        ExplicitVRLittleEndian,
    )
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SpecificCharacterSet = "ISO_IR 100"
    known: dict[str, Any] = {
        **REQUIRED_VALUES, **OTHER_VALUES, "SOPClassUID": DX, "SOPInstanceUID": IMAGE, "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": SERIES, "Modality": "DX", "PatientOrientation": ["L", "F"], "Rows": SIZE_HW[0],
        "Columns": SIZE_HW[1], "SamplesPerPixel": 1, "PixelRepresentation": 0, "BitsAllocated": 16, "BitsStored": 12,
        "HighBit": 11, "PhotometricInterpretation": "MONOCHROME1", "WindowCenter": [2048, 1000],
        "WindowWidth": [4096, 500], "RescaleSlope": "1", "RescaleIntercept": "0", "PixelData": stored().tobytes(),
    }  # fmt: skip
    for keyword, value in (known | changes).items():
        if value is not None:
            setattr(file, keyword, value)
    content = BytesIO()
    file.save_as(content, enforce_file_format=True)
    return content.getvalue()


def stored() -> np.ndarray:
    """Bright in the middle, with all grey values: low stored values are bright."""
    y, x = np.mgrid[-1 : 1 : SIZE_HW[0] * 1j, -1 : 1 : SIZE_HW[1] * 1j]
    return np.clip(4095 * (x**2 + y**2) / 2 + 5, 0, 4095).astype("<u2")


def source(**changes: Any) -> SourceImage:
    return read_source(dicom_bytes(**changes), "the file")


def result(found: tuple[FoundBox, ...] = FOUND, quality: Quality = GOOD, **changes: Any) -> ImageResult:
    return image_result(source(**changes), found, quality)


def pixels() -> np.ndarray:
    """As decoded."""
    return (1 - stored() / np.float32(4095)).astype(np.float32)


def texts(item: Dataset) -> list[str]:
    """All names and values below an item."""
    found = [str(item.get(name)) for name in ("TextValue", "UID") if name in item]
    for name in ("ConceptNameCodeSequence", "ConceptCodeSequence"):
        found += [code.CodeMeaning for code in item.get(name, [])]
    return found + [text for child in item.get("ContentSequence", []) for text in texts(child)]

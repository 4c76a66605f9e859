"""The header of a radiograph, as far as results need it: whose image it is, and how its pixels are shown.

Nothing else is read, so nothing else of a patient can reach a result.
"""

import hashlib
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID

from cxr.config import UserError
from cxr.imaging.decoding import decoding
from cxr.imaging.dicom import START_BYTES, header_of, is_dicom_start

RADIOGRAPH_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",  # for presentation
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX",  # for processing
    "1.2.840.10008.5.1.4.1.1.7": "OT",  # secondary capture
    "1.2.840.10008.5.1.4.1.1.7.2": "OT",  # multi-frame grayscale byte secondary capture
    "1.2.840.10008.5.1.4.1.1.7.3": "OT",  # multi-frame grayscale word secondary capture
}
"""SOP classes that a radiograph can have, and their modality. Others, such as slices of CT, are refused, since results
on them would be nonsense."""

_UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_TEXTS = ("PatientID", "AccessionNumber", "StudyID")
_NAMES = ("PatientName", "ReferringPhysicianName")
_DATES, _TIMES = ("PatientBirthDate", "StudyDate"), ("StudyTime",)
_REQUIRED = (*_UIDS, *_TEXTS, *_NAMES, *_DATES, *_TIMES, "SOPClassUID", "PatientSex", "Rows", "Columns")
"""What the standard requires of a result: attributes of type 1 and 2 of the modules Patient and General Study."""

_DISPLAY = (
    "PhotometricInterpretation", "BitsStored", "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "PixelSpacing", "PixelSpacingCalibrationType",
    "PatientOrientation", "BurnedInAnnotation", "LossyImageCompression",
)  # fmt: skip

_MAX_TEXT = {"PatientID": 64, "AccessionNumber": 16, "StudyID": 16}
_CALIBRATED = ("GEOMETRY", "FIDUCIAL")


@dataclass(frozen=True)
class SourceImage:
    """One radiograph. data_sha256: of the file.

    header: the required attributes, in the form that they have in a result. display: the original attributes that say
    how the pixels are shown, as far as the file has them.
    """

    header: Dataset
    display: Dataset
    data_sha256: str

    @property
    def uid(self) -> str:
        """The SOP instance UID."""
        return str(self.header.SOPInstanceUID)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.header.Rows), int(self.header.Columns)

    @property
    def modality(self) -> str:
        """CR, DX or OT, by the SOP class."""
        return RADIOGRAPH_CLASSES[str(self.header.SOPClassUID)]

    @property
    def is_inverted(self) -> bool:
        """MONOCHROME1: low values are bright."""
        return str(self.display.get("PhotometricInterpretation", "")) == "MONOCHROME1"

    @cached_property
    def spacing_mm(self) -> tuple[float, float] | None:
        """Distance of rows and of columns in the patient in mm; None where the file does not say it reliably.

        PixelSpacing of a radiograph is the distance in the patient only where PixelSpacingCalibrationType says so.
        Otherwise, and in ImagerPixelSpacing, it is the distance on the detector: some 5 to 40 % more than in the chest.
        """
        if str(self.display.get("PixelSpacingCalibrationType", "")).strip() not in _CALIBRATED:
            return None
        try:
            rows, columns = (float(value) for value in self.display.PixelSpacing)
        except (AttributeError, TypeError, ValueError):
            return None
        return (rows, columns) if all(math.isfinite(v) and v > 0 for v in (rows, columns)) else None


def read_source(data: bytes, name: str) -> SourceImage:
    """The source image of a DICOM file whose pixels have been decoded before.

    Args:
        name: what error messages call the file.

    Raises:
        UserError: no DICOM, no radiograph, or its header lacks what a result must refer to.
    """
    if not is_dicom_start(data[:START_BYTES]):
        raise UserError(f"{name} is not DICOM, so there is no study for its results; give DICOM files")
    with decoding(name):
        full = header_of(data, [*_REQUIRED, *_DISPLAY])
        problem = _problem(full)
        if problem:
            raise UserError(f"{name} {problem}")
        display = Dataset()
        for keyword in _DISPLAY:
            if keyword in full:
                display.add(full[keyword])
        return SourceImage(_clean(full), display, hashlib.sha256(data).hexdigest())


def reference_of(data: bytes) -> tuple[str, str]:
    """SOP class and instance UID of a file; "" where it does not say or cannot be read."""
    try:
        with decoding("the file"):
            header = header_of(data, ["SOPClassUID", "SOPInstanceUID"])
            return str(header.get("SOPClassUID") or ""), str(header.get("SOPInstanceUID") or "")
    except UserError:
        return "", ""


def _problem(full: Dataset) -> str:
    """Why there can be no results; "" if nothing is missing."""
    sop_class = str(full.get("SOPClassUID") or "")
    if sop_class not in RADIOGRAPH_CLASSES:
        kind = UID(sop_class).name if sop_class else "of no SOP class"
        return f"is no radiograph ({kind}); expected computed or digital radiography, or secondary capture"
    for keyword in _UIDS:
        value = str(full.get(keyword) or "")
        if not UID(value).is_valid or not value:
            got = "an invalid" if value else "no"
            return f"has {got} {keyword}, so no result can refer to it; send the file as the PACS has it"
    return ""


def _clean(full: Dataset) -> Dataset:
    """The required attributes, with invalid values removed: a writer of DICOM must not repeat them."""
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    for keyword in (*_UIDS, "SOPClassUID"):
        setattr(header, keyword, UID(str(full[keyword].value)))
    for keyword in _TEXTS:
        setattr(header, keyword, _text(full.get(keyword))[: _MAX_TEXT[keyword]].strip())
    for keyword in _NAMES:
        setattr(header, keyword, _person(full.get(keyword)))
    for keyword in _DATES:
        setattr(header, keyword, _matching(full.get(keyword), r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"))
    for keyword in _TIMES:
        setattr(header, keyword, _matching(full.get(keyword), r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"))
    header.PatientSex = _matching(full.get("PatientSex"), "[MFO]")
    header.Rows, header.Columns, header.SamplesPerPixel = int(full.Rows), int(full.Columns), 1
    return header


def _text(value: Any) -> str:
    """One line without control characters and without the backslash, which separates values."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        value = next(iter(value), "")
    kept = (c for c in str(value or "") if unicodedata.category(c) not in ("Cc", "Cs") and c != "\\")
    return "".join(kept).strip()


def _person(value: Any) -> str:
    """At most three groups of at most 64 characters and five components each (PS3.5, 6.2)."""
    groups = _text(value).split("=")[:3]
    return "=".join("^".join(group.split("^")[:5])[:64] for group in groups).strip("=")


def _matching(value: Any, pattern: str) -> str:
    text = _text(value)
    return text if re.fullmatch(pattern, text) else ""

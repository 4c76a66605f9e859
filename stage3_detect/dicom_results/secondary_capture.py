"""The secondary capture: a picture of the image with the boxes burnt in, for viewers that show nothing else."""

from typing import Any

from highdicom.sc import SCImage
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from cxr.imaging.files import GrayImage
from cxr.labels.codes import OWN_SCHEME, Code
from stage3_detect.dicom_results.burn_in import burn_colour, burn_grey, draw_overlay
from stage3_detect.dicom_results.presentation_state import verdict_lines
from stage3_detect.dicom_results.report import SC_SERIES, Occasion, equipment, times
from stage3_detect.dicom_results.result import NOT_FOR_DIAGNOSIS, Algorithm, ImageResult, instance_uid, series_uid
from stage3_detect.dicom_results.settings import ResultSettings
from stage3_detect.dicom_results.source import SourceImage

MAX_COLOUR_SIDE_PX = 2048
"""Of the picture in colour, which has three times the bytes."""

_BURNT_IN = Code("burnt-in", OWN_SCHEME, "Boxes and text burnt into the pixels")
_RESAMPLED = Code("113085", "DCM", "Spatial resampling")
_PURPOSE = Code("121322", "DCM", "Source image for image processing operation")


def secondary_capture(
    result: ImageResult, pixels: GrayImage, algorithm: Algorithm, settings: ResultSettings, occasion: Occasion
) -> Dataset:
    """The picture of one image.

    Args:
        pixels: (H, W) in [0, 1], bone bright, as decoded.
    """
    source = result.source
    in_colour = settings.capture == "colour"
    scale = min(1.0, MAX_COLOUR_SIDE_PX / max(pixels.shape)) if in_colour else 1.0
    size_hw = (max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale)))
    overlay = draw_overlay(size_hw, result.boxes, algorithm.findings, _notes(result, algorithm), scale=scale)
    bits = _bits(source)
    picture = burn_colour(pixels, overlay, size_hw) if in_colour else burn_grey(pixels, overlay, bits=bits)
    capture: Dataset = SCImage(
        picture,
        "RGB" if in_colour else "MONOCHROME2",
        8 if in_colour else 16,
        "PATIENT",
        series_instance_uid=series_uid("secondary captures", source),
        series_number=SC_SERIES,
        sop_instance_uid=instance_uid("secondary capture", [result], algorithm, settings.capture),
        instance_number=occasion.instance_number,
        patient_orientation=("L", "F"),  # replaced below
        series_description="raybox picture",
        **_patient_and_study(source),
        **equipment(algorithm),
        **times(occasion.time),
    )
    capture.ConversionType = "WSD"
    if not in_colour:
        capture.BitsStored, capture.HighBit = bits, bits - 1
        capture.WindowCenter, capture.WindowWidth = 2 ** (bits - 1), 2**bits
    _describe(capture, source, is_resampled=scale < 1)
    return capture


def _notes(result: ImageResult, algorithm: Algorithm) -> list[str]:
    trained = ", trained on computer-generated images" if algorithm.synthetic else ""
    model = f"{algorithm.name}, {algorithm.manifest_sha256[:12]}, operating point {algorithm.point}{trained}"
    return [NOT_FOR_DIAGNOSIS.upper(), " ".join(verdict_lines(result)), model]


def _bits(source: SourceImage) -> int:
    """Bits of a pixel of the image, as far as the picture can have them."""
    return min(max(int(source.display.get("BitsStored") or 8), 8), 16)


def _patient_and_study(source: SourceImage) -> dict[str, Any]:
    header = source.header
    return {
        "specific_character_set": header.SpecificCharacterSet,
        "study_instance_uid": header.StudyInstanceUID,
        "patient_id": header.PatientID,
        "patient_name": header.PatientName,
        "patient_birth_date": header.PatientBirthDate,
        "patient_sex": header.PatientSex,
        "accession_number": header.AccessionNumber,
        "study_id": header.StudyID,
        "study_date": header.StudyDate or None,
        "study_time": header.StudyTime or None,
        "referring_physician_name": header.ReferringPhysicianName,
    }


def _describe(capture: Dataset, source: SourceImage, *, is_resampled: bool) -> None:
    """Where the picture comes from, and what was done to it."""
    orientation = source.display.get("PatientOrientation")
    capture.PatientOrientation = list(orientation) if orientation and len(orientation) == 2 else None
    capture.Laterality = None  # as in the presentation state
    capture.DerivationDescription = f"{_BURNT_IN.meaning}; {NOT_FOR_DIAGNOSIS.lower()}"
    steps = [_RESAMPLED, _BURNT_IN] if is_resampled else [_BURNT_IN]
    capture.DerivationCodeSequence = DicomSequence([_code_item(code) for code in steps])
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.header.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.uid
    reference.PurposeOfReferenceCodeSequence = DicomSequence([_code_item(_PURPOSE)])
    capture.SourceImageSequence = DicomSequence([reference])
    for keyword in ("BurnedInAnnotation", "LossyImageCompression"):  # what was true of the image is true of its picture
        if source.display.get(keyword):
            setattr(capture, keyword, source.display[keyword].value)


def _code_item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item

"""All DICOM results on one image."""

from io import BytesIO

from pydicom.dataset import Dataset

from cxr.imaging.files import GrayImage
from stage3_detect.dicom_results.presentation_state import presentation_state
from stage3_detect.dicom_results.report import Occasion, structured_report
from stage3_detect.dicom_results.result import Algorithm, ImageResult
from stage3_detect.dicom_results.secondary_capture import secondary_capture
from stage3_detect.dicom_results.settings import ResultSettings

REPORT, PRESENTATION, PICTURE = "report.dcm", "presentation_state.dcm", "secondary_capture.dcm"


def make_results(
    result: ImageResult, pixels: GrayImage, algorithm: Algorithm, settings: ResultSettings, occasion: Occasion
) -> dict[str, bytes]:
    """File name -> content of the structured report, the presentation state and the secondary capture of one image.

    Args:
        pixels: (H, W) in [0, 1], bone bright, as decoded.
    """
    return {
        REPORT: encoded(structured_report([result], algorithm, settings, occasion)),
        PRESENTATION: encoded(presentation_state(result, algorithm, occasion)),
        PICTURE: encoded(secondary_capture(result, pixels, algorithm, settings, occasion)),
    }


def encoded(dataset: Dataset) -> bytes:
    """A result as a file."""
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()

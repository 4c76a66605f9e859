"""From an accepted image to boxes, and from boxes to results. What is found is kept as text in the queue."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Annotated, Any

from pydantic import Field, FiniteFloat
from pydicom.dataset import Dataset

from cxr.labels import FINDINGS
from cxr.own_json import Shape, check_shape, parse_object
from stage3_detect.dicom_results.make import encoded
from stage3_detect.dicom_results.presentation_state import presentation_state
from stage3_detect.dicom_results.read_report import Report, read_report
from stage3_detect.dicom_results.report import Occasion, structured_report
from stage3_detect.dicom_results.result import Algorithm, ImageResult, image_result
from stage3_detect.dicom_results.secondary_capture import secondary_capture
from stage3_detect.dicom_results.settings import ResultSettings
from stage3_detect.dicom_results.source import SourceImage, read_source
from stage3_detect.image_quality.verdict import Quality
from stage3_detect.model.predictor import FoundBox
from stage3_detect.serving.dicom.store import QueuedImage
from stage3_detect.serving.interface import DecodedImage, ServedModel
from stage3_detect.serving.model.images import decode_image
from stage3_detect.serving.records import RecordFile

_WHERE, _ADVICE = "DICOM queue: what was found on an image", "send the image again"

FAILED = "The analysis of the image failed; the log of the service says where."

File = tuple[str, bytes]
"""SOP instance UID, and the content of the file."""


class _Box(Shape):
    finding: str
    xyxy: Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]
    score: FiniteFloat
    shown: bool
    confidence: FiniteFloat | None = None


class _Quality(Shape):
    ok: bool
    reasons: list[str]
    abstains: bool = False


class _Examined(Shape):
    """What is kept of an examination. header, display: DICOM elements."""

    header: dict[str, Any]
    display: dict[str, Any]
    boxes: list[_Box]
    quality: _Quality


@dataclass(frozen=True)
class Arrival:
    """An image that can be accepted: its header is complete, and its pixels were decoded."""

    source: SourceImage
    image: DecodedImage


def read_arrival(data: bytes, *, max_pixels: int) -> Arrival:
    """Decode an image and read its header. UserError says why it cannot be accepted."""
    image = decode_image(data, "the image", max_pixels=max_pixels)
    return Arrival(read_source(data, "the image"), image)


class Examiner:
    """Makes results with one model."""

    def __init__(self, model: ServedModel, settings: ResultSettings, records: RecordFile | None = None) -> None:
        """records: where a line for each image is appended, for drift."""
        self._model, self._settings, self._records = model, settings, records
        facts = model.facts
        self._algorithm = Algorithm(
            facts.name,
            version("raybox"),
            facts.manifest_sha256,
            facts.default_point,
            facts.findings,
            facts.synthetic,
            facts.codes,
        )
        self._known = tuple(dict.fromkeys([*facts.findings, *FINDINGS]))

    def examine(self, arrival: Arrival) -> str:
        """Boxes, quality and header of an image as JSON."""
        boxes, quality = self._model.detect(arrival.image), self._model.quality(arrival.image)
        if self._records is not None:
            self._records.add(quality, boxes)
        return _as_text(arrival.source, [box for box in boxes if box.shown], quality)

    def failed(self, data: bytes) -> str:
        """As `examine`, for the file of an image on which the model failed: the result abstains."""
        return _as_text(read_source(data, "the image"), [], Quality(False, (FAILED,), abstains=True))

    def report(self, images: list[QueuedImage], last: bytes) -> File:
        """The report on all images of a study. last: the report that it replaces, b"" for none."""
        replaced = self._read(last)
        results = [self._result(image, replaced) for image in images]
        occasion = Occasion(datetime.now(), replaced.as_predecessor() if replaced else None)
        return _file(structured_report(results, self._algorithm, self._settings, occasion))

    def pictures(self, image: QueuedImage, pixels: DecodedImage, report: bytes) -> list[File]:
        """Presentation state and secondary capture of an image that `report` is about."""
        known = self._read(report)
        result = self._result(image, known)
        occasion = Occasion(datetime.now())
        state = presentation_state(result, self._algorithm, occasion)
        capture = secondary_capture(result, pixels.pixels, self._algorithm, self._settings, occasion)
        return [_file(state), _file(capture)]

    def _read(self, report: bytes) -> Report | None:
        return read_report(report, "the last report", self._known, self._algorithm.codes) if report else None

    def _result(self, image: QueuedImage, earlier: Report | None) -> ImageResult:
        content = parse_object(image.examined or "", where=_WHERE, advice=_ADVICE)
        check_shape(content, _Examined, where=_WHERE, advice=_ADVICE)
        source = SourceImage(Dataset.from_json(content["header"]), Dataset.from_json(content["display"]), image.sha256)
        boxes = [FoundBox(**box | {"xyxy": tuple(box["xyxy"])}) for box in content["boxes"]]
        verdict = content["quality"]
        abstains = verdict.get("abstains", not verdict["ok"])  # an earlier version abstained on each problem
        quality = Quality(verdict["ok"], tuple(verdict["reasons"]), abstains=abstains)
        return image_result(source, boxes, quality, earlier=earlier.boxes.get(image.uid, ()) if earlier else ())


def _as_text(source: SourceImage, boxes: list[FoundBox], quality: Quality) -> str:
    content = {
        "header": source.header.to_json_dict(),
        "display": source.display.to_json_dict(),
        "boxes": [asdict(box) for box in boxes],
        "quality": {"ok": quality.ok, "reasons": quality.reasons, "abstains": quality.abstains},
    }
    return json.dumps(content)


def _file(dataset: Dataset) -> File:
    return str(dataset.SOPInstanceUID), encoded(dataset)

"""Read the boxes of a structured report (TID 1500), of raybox or of a viewer in which a reader edited it.

Viewers write the region in the group of measurements or below a number, keep the code of the finding or replace it by
text, and give new identities to boxes. So all of these are read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydicom.dataset import Dataset

from cxr.config import UserError
from cxr.imaging.decoding import decoding
from cxr.imaging.dicom import START_BYTES, header_of, is_dicom_start
from cxr.labels import nearest
from cxr.labels.codes import NO_CODES, OWN_SCHEME, FindingCode, OwnCodes, codes_of, finding_of
from stage3_detect.dicom_results.result import EDITABLE_PREFIX, MANUFACTURER, Predecessor, TrackedBox
from stage3_detect.model.predictor import Box

_TAGS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "InstanceNumber", "Modality",
    "Manufacturer", "ConceptNameCodeSequence", "ContentSequence",
)  # fmt: skip
_REPORT, _GROUP, _OBSERVER = "126000", "125007", "121008"
_TRACKING_TEXT, _TRACKING_UID, _FINDING = "112039", "112040", "121071"
_CERTAINTY = "111012"


@dataclass(frozen=True)
class Report:
    """A report.

    reader: name of the person who made it; "" for a program. is_own: made by raybox. images: UIDs of all images that it
    is about. boxes: image UID -> its boxes. num_other_regions: regions that are no boxes, such as points and lines.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    instance_number: int
    reader: str
    is_own: bool
    images: tuple[str, ...]
    boxes: dict[str, list[TrackedBox]] = field(default_factory=dict)
    num_other_regions: int = 0

    def as_predecessor(self) -> Predecessor:
        """What a new report needs to replace this one."""
        return Predecessor(
            self.sop_class_uid, self.sop_instance_uid, self.series_instance_uid, self.instance_number, self.boxes
        )


def read_report(data: bytes, name: str, findings: Sequence[str], codes: OwnCodes = NO_CODES) -> Report | None:
    """The boxes of a structured report; None if the file is something else.

    Args:
        name: what error messages call the file. findings: of the model; each box must have one of them. codes: those of
            a label file.

    Raises:
        UserError: the file is damaged, or a box has another finding.
    """
    if not is_dicom_start(data[:START_BYTES]):
        return None
    with decoding(name):
        document = header_of(data, _TAGS)
        if document.get("Modality") != "SR" or _code_value(document) != _REPORT:
            return None
        report = Report(
            str(document.SOPClassUID),
            str(document.SOPInstanceUID),
            str(document.SeriesInstanceUID),
            int(document.get("InstanceNumber") or 1),
            _reader(document),
            str(document.get("Manufacturer", "")) == MANUFACTURER,
            tuple(dict.fromkeys(_images(document))),
        )
        return _with_boxes(report, document, codes_of(findings, codes), name)


def _with_boxes(report: Report, document: Dataset, known: Mapping[str, FindingCode], name: str) -> Report:
    num_others = 0
    for group in _groups(document):
        region = _region(group)
        if region is None:  # an image without a box
            continue
        xyxy = _box(region)
        if xyxy is None:
            num_others += 1
            continue
        image = str(region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        report.boxes.setdefault(image, []).append(_tracked(group, xyxy, known, name))
    return Report(**{**report.__dict__, "num_other_regions": num_others})


def _tracked(group: Dataset, xyxy: Box, known: Mapping[str, FindingCode], name: str) -> TrackedBox:
    texts = {_code_value(item): item for item in group.ContentSequence}
    uid = str(texts[_TRACKING_UID].UID) if _TRACKING_UID in texts else ""
    label = str(texts[_TRACKING_TEXT].TextValue) if _TRACKING_TEXT in texts else ""
    certainty = _number(texts.get(_CERTAINTY))
    score = next((_number(item) for item in group.ContentSequence if _is_score(item)), None)
    return TrackedBox(
        _finding(texts.get(_FINDING), label, known, name),
        xyxy,
        0.0 if score is None else score,
        None if certainty is None else certainty / 100,
        label.removeprefix(EDITABLE_PREFIX).removeprefix(":"),
        uid,
    )


def _finding(item: Dataset | None, label: str, known: Mapping[str, FindingCode], name: str) -> str:
    """By its code, else by its words: viewers put what a reader typed into the meaning of a code of their own."""
    if item is None:
        raise UserError(f"report {name}: a box {label!r} has no finding; give it one in the viewer")
    code = item.ConceptCodeSequence[0]
    value, scheme = str(code.get("CodeValue", "")), str(code.get("CodingSchemeDesignator", ""))
    meaning = str(code.get("CodeMeaning", "")).strip()
    by_words = {finding.lower(): finding for finding in known}
    found = finding_of(value, scheme, known) or by_words.get(meaning.rstrip("0123456789 ").lower())
    if found is None:
        raise UserError(
            f"report {name}: finding {meaning!r} ({value}, {scheme}) is not one of the model's"
            f"{nearest(meaning, known)}; these are {', '.join(known)}"
        )
    return found


def _groups(document: Dataset) -> Iterator[Dataset]:
    """All groups of measurements below a container."""
    for item in document.get("ContentSequence") or ():
        if item.get("ValueType") == "CONTAINER":
            if _code_value(item) == _GROUP:
                yield item
            else:
                yield from _groups(item)


def _images(item: Dataset) -> Iterator[str]:
    """UIDs of all images that an item or those below it name."""
    if item.get("ValueType") == "IMAGE":
        yield str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
    for child in item.get("ContentSequence") or ():
        yield from _images(child)


def _region(group: Dataset) -> Dataset | None:
    """The region of a group, or of the first number in it that has one."""
    items = list(group.get("ContentSequence") or ())
    below = [child for item in items if item.get("ValueType") == "NUM" for child in item.get("ContentSequence") or ()]
    return next((item for item in [*items, *below] if item.get("ValueType") == "SCOORD"), None)


def _box(region: Dataset) -> Box | None:
    """The box around a closed line or an ellipse; None for other shapes, and where it has no area."""
    points = np.asarray(region.get("GraphicData") or (), dtype=np.float64).reshape(-1, 2)
    kind = str(region.get("GraphicType"))
    if kind not in ("POLYLINE", "ELLIPSE") or len(points) < 4 or not np.isfinite(points).all():
        return None
    (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _reader(document: Dataset) -> str:
    """Name of the person observer."""
    for item in document.get("ContentSequence") or ():
        if _code_value(item) == _OBSERVER and item.get("ValueType") == "PNAME":
            return str(item.get("PersonName") or "").strip()
    return ""


def _is_score(item: Dataset) -> bool:
    names = item.get("ConceptNameCodeSequence") or [Dataset()]
    return (names[0].get("CodeValue"), names[0].get("CodingSchemeDesignator")) == ("score", OWN_SCHEME)


def _number(item: Dataset | None) -> float | None:
    values = item.get("MeasuredValueSequence") if item is not None else None
    return float(values[0].NumericValue) if values else None


def _code_value(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].get("CodeValue", "")) if names else ""

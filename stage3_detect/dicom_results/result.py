"""What a result says: the boxes of one or more images of a study, by which algorithm, with which verdict."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cxr.boxes import iou_of_two
from cxr.labels.codes import OwnCodes
from stage3_detect.dicom_results.source import SourceImage
from stage3_detect.dicom_results.uids import derived_uid
from stage3_detect.image_quality.verdict import Quality
from stage3_detect.model.predictor import Box, FoundBox

MANUFACTURER = "raybox"
NOT_FOR_DIAGNOSIS = "For research only, not for diagnosis"

EDITABLE_PREFIX = "Cornerstone3DTools@^0.1.0:RectangleROI"
"""OHIF edits a region as a rectangle if its tracking identifier begins so; the label of the box follows."""

SAME_BOX_IOU = 0.5
"""A box of an earlier result with the same finding and at least this overlap marks the same thing."""


@dataclass(frozen=True)
class Algorithm:
    """Who found the boxes. manifest_sha256: identity of the model's files. point: name of the operating point that
    decides which boxes are shown. synthetic: trained on computer-generated images. codes: of findings of a label
    file."""

    name: str
    version: str
    manifest_sha256: str
    point: str
    findings: tuple[str, ...]
    synthetic: bool
    codes: OwnCodes = field(default_factory=dict)


@dataclass(frozen=True)
class TrackedBox:
    """A box with its identity: `uid` is the same in every result on the image that marks the same thing."""

    finding: str
    xyxy: Box
    score: float
    confidence: float | None
    label: str
    uid: str


@dataclass(frozen=True)
class ImageResult:
    """The result on one image. boxes: those that are shown, highest score first; none if the algorithm
    abstains because of the image's quality."""

    source: SourceImage
    boxes: tuple[TrackedBox, ...]
    quality: Quality

    @property
    def facts(self) -> list[Any]:
        """All that the result says, for its identity."""
        boxes = [[box.finding, *(round(v, 3) for v in box.xyxy), round(box.score, 6), box.uid] for box in self.boxes]
        return [self.source.uid, self.source.data_sha256, list(self.quality.reasons), self.quality.abstains, boxes]


@dataclass(frozen=True)
class Predecessor:
    """An earlier report on the study, which a new one replaces."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    instance_number: int
    boxes: Mapping[str, Sequence[TrackedBox]]
    """SOP instance UID of an image -> its boxes."""


def image_result(
    source: SourceImage, found: Sequence[FoundBox], quality: Quality, *, earlier: Sequence[TrackedBox] = ()
) -> ImageResult:
    """The result on an image.

    Args:
        found: as `BoxPredictor` returns them. earlier: boxes of an earlier result on the same image; a box that marks
            the same thing keeps its identity.
    """
    shown = [] if quality.abstains else [box for box in found if box.shown]
    return ImageResult(source, tuple(_tracked(source, shown, earlier)), quality)


def _tracked(source: SourceImage, shown: Sequence[FoundBox], earlier: Sequence[TrackedBox]) -> list[TrackedBox]:
    left = list(earlier)
    matched: dict[int, TrackedBox] = {}
    for index, box in enumerate(shown):
        same = [one for one in left if one.finding == box.finding and iou_of_two(one.xyxy, box.xyxy) >= SAME_BOX_IOU]
        if same:
            matched[index] = max(same, key=lambda one: iou_of_two(one.xyxy, box.xyxy))
            left.remove(matched[index])
    taken = {box.label for box in earlier}
    tracked = []
    for index, box in enumerate(shown):
        label = matched[index].label if index in matched else _new_label(box.finding, taken)
        uid = matched[index].uid if index in matched else derived_uid("tracking", source.uid, label)
        taken.add(label)
        tracked.append(TrackedBox(box.finding, _inside(box.xyxy, source), box.score, box.confidence, label, uid))
    return tracked


def _new_label(finding: str, taken: set[str]) -> str:
    """ "Pleural Effusion 1", with the first number that is free."""
    number = 1
    while f"{finding} {number}" in taken:
        number += 1
    return f"{finding} {number}"


def _inside(xyxy: Box, source: SourceImage) -> Box:
    height, width = source.size_hw
    x1, y1, x2, y2 = xyxy
    return max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2)


def instance_uid(kind: str, results: Sequence[ImageResult], algorithm: Algorithm, *more: str) -> str:
    """SOP instance UID of a result: another one whenever the result says something else."""
    facts = [[result.facts for result in results], algorithm.__dict__, more]
    return derived_uid(kind, json.dumps(facts, sort_keys=True, default=list))


def series_uid(kind: str, source: SourceImage) -> str:
    """Series of all results of a kind in the study of an image: viewers show the newest report of a series."""
    return derived_uid(f"series of {kind}", str(source.header.StudyInstanceUID))

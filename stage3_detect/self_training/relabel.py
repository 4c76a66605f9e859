"""Labels of a later round: boxes of the CAM teacher and of the student, fused where the label affirms the finding.

A detector that is trained on noisy boxes is often better than these boxes (Xie et al., Self-training with noisy
student, 2020). It makes other errors than its teacher, so a box on which both agree is correct more often. Both are
first brought to the same scale: the calibrated probability that a box is correct.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cxr.arrays import Floats
from cxr.boxes import CORNERS, weighted_boxes_fusion
from cxr.coco import BOX_FIELDS, CocoBoxes
from eval.detection.confidence import fit_confidence
from eval.detection.curves import Confidence
from eval.detection.measures import best_f1_scores
from stage3_detect.settings.labels import SelfTrainingSettings

Pair = tuple[str, str]
"""Image id and finding."""

UNSURE = "confidence of teacher and student together too low"
STUDENT, TEACHER = "student", "teacher"
_KEY = ["image_id", "finding"]
_COLUMNS = [*BOX_FIELDS, "confidence", "method", "iscrowd", "ignored_by"]


@dataclass(frozen=True)
class StudentScale:
    """Calibration of a student on the tune split, for images that have the finding.

    confidence: score -> probability that a box is correct. min_scores: finding -> lowest score of boxes that are used.
    """

    confidence: Confidence
    min_scores: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON. A score that no box reaches becomes null."""
        least = {name: value if math.isfinite(value) else None for name, value in self.min_scores.items()}
        return {"confidence": self.confidence.as_dict(), "min_scores": least}


def student_scale(detections: CocoBoxes, tune: CocoBoxes, *, default_confidence: float) -> StudentScale:
    """Calibrate the student on the tune split. Per finding, only images with a true box of it count.

    The lowest score of a finding is the one with the highest F1 at IoU 0.4. Where that does not exist (no true box in
    the tune split, or no correct box) it is the score whose confidence is `default_confidence`, on the curve of the
    finding where there is one, else on that of all findings together.

    Args:
        detections: of the student on the images of `tune`, with all scores.
    """
    real = tune.without_ignored()
    found = _of_pairs(detections.boxes, set(_keys(real.boxes)))
    confidence = fit_confidence(found, tune)
    scores = best_f1_scores(tune, found)
    least = {
        name: score if math.isfinite(score) else confidence.score_at(name, default_confidence)
        for name, score in scores.items()
    }
    return StudentScale(confidence, least)


def affirmed_pairs(labels: CocoBoxes) -> set[Pair]:
    """Images and findings that are relabelled: the label affirms the finding, or the teacher has a box and the label
    neither denies the finding nor calls it uncertain."""
    boxed = set(_keys(labels.without_ignored().boxes))
    if "labels" not in labels.images:
        return boxed
    given = dict(zip(labels.images["image_id"], labels.images["labels"], strict=True))
    label_of = {image_id: label if isinstance(label, Mapping) else {} for image_id, label in given.items()}
    affirmed = {(i, name) for i, label in label_of.items() for name in labels.findings if _is(label.get(name), 1)}
    return affirmed | {(i, name) for i, name in boxed if not _is(label_of[i].get(name), 0, -1)}


def _is(label: Any, *values: int) -> bool:
    return label is not None and not pd.isna(label) and int(label) in values


def student_boxes(detections: CocoBoxes, pairs: set[Pair]) -> CocoBoxes:
    """The detections of these images and findings."""
    return detections.with_boxes(_of_pairs(detections.boxes, pairs))


def chosen_boxes(detections: CocoBoxes, scale: StudentScale) -> pd.DataFrame:
    """The student's boxes that are fused, with confidence and method: those that reach the lowest score of their
    finding, and always the best one per image and finding, because the finding is present."""
    boxes = detections.boxes.reset_index(drop=True)
    least = boxes["finding"].map(dict(scale.min_scores)).to_numpy(dtype=np.float64)
    place = boxes.groupby(_KEY)["score"].rank(ascending=False, method="first").to_numpy(dtype=np.float64)
    kept = boxes[(boxes["score"].to_numpy(dtype=np.float64) >= least) | (place == 1)].reset_index(drop=True)
    chosen: pd.DataFrame = kept.assign(confidence=scale.confidence.of(kept), method=STUDENT)
    return chosen


def relabel(teacher: CocoBoxes, student: pd.DataFrame, settings: SelfTrainingSettings) -> CocoBoxes:
    """Fuse the boxes of teacher and student for each affirmed image and finding.

    1. Weighted boxes fusion within an image and finding: boxes that overlap by more than `fusion_iou` become one, its
       corners their mean weighted by confidence x the source's weight (`teacher_weight`, `student_weight`).
    2. The confidence is the mean over the two sources, weighted by the sources' weights; of a source, the highest
       confidence of its members counts. A source with boxes of the finding in this image, but none at this place,
       counts 0. A source without any box of the finding in this image is ignored.
    3. A box below `min_confidence` becomes an ignore region, except the best one per image and finding.
    4. The teacher's ignore regions stay, except those of an affirmed finding that has a box now.

    A finding that the label denies, calls uncertain or does not mention gets no box (see `affirmed_pairs`). An affirmed
    finding without a box from either source keeps its ignore regions, if any.

    Args:
        teacher: labels of stage 2 with a column confidence (a box without confidence counts as certain).
        student: `chosen_boxes` of the affirmed images and findings.

    Returns:
        the teacher's images with boxes whose score is their confidence. method: the CAM method, "student", or both
        joined by a plus. Sorted by image, then finding, the most confident first.
    """
    pairs = affirmed_pairs(teacher)
    boxes = teacher.without_ignored().boxes
    teachers = _of_pairs(_with_confidence(boxes), pairs)
    fused = _fuse_all(teachers, _of_pairs(student, pairs), settings)
    regions = _with_confidence(teacher.boxes[teacher.is_ignored])
    boxed = set(_keys(fused))
    kept = regions[[pair not in boxed for pair in _keys(regions)]].assign(iscrowd=1)
    table = pd.concat([fused, kept], ignore_index=True) if len(kept) else fused
    return teacher.with_boxes(_in_order(table[_COLUMNS], teacher))


def _with_confidence(boxes: pd.DataFrame) -> pd.DataFrame:
    """Add the missing columns. A box drawn by a reader has no confidence and counts as certain."""
    confidence = boxes["confidence"] if "confidence" in boxes else pd.Series(np.nan, boxes.index)
    texts = {"method": boxes.get("method", TEACHER), "ignored_by": boxes.get("ignored_by", "")}
    return boxes.assign(confidence=confidence.astype(np.float64).fillna(1.0), **texts)


def _fuse_all(teacher: pd.DataFrame, student: pd.DataFrame, settings: SelfTrainingSettings) -> pd.DataFrame:
    both = pd.concat([teacher.assign(by=0), student.assign(by=1)], ignore_index=True)
    corners, confidence = (both[names].to_numpy(dtype=np.float64) for names in (CORNERS, "confidence"))
    by, methods = both["by"].to_numpy(dtype=np.int64), both["method"].to_numpy(dtype=object)
    rows: list[tuple[object, ...]] = []
    groups: Any = both.groupby(_KEY, sort=False).indices
    for (image_id, finding), own in groups.items():
        weights = confidence[own] * np.where(by[own] == 0, settings.teacher_weight, settings.student_weight)
        fused, _, members = weighted_boxes_fusion(corners[own], weights, iou=settings.fusion_iou)
        confidences = [_confidence(confidence[own], by[own], member, settings) for member in members]
        best = int(np.argmax(confidences))
        for place, (box, member) in enumerate(zip(fused.tolist(), members, strict=True)):
            method = "+".join(sorted({str(methods[own][m]) for m in member}, key=lambda name: name == STUDENT))
            unsure = confidences[place] < settings.min_confidence and place != best
            row = (confidences[place], confidences[place], method, int(unsure), UNSURE if unsure else "")
            rows.append((image_id, finding, *box, *row))
    numbers = dict.fromkeys([*BOX_FIELDS[2:], "confidence"], np.float64)
    types = dict.fromkeys(("image_id", "finding", "method", "ignored_by"), object)
    return pd.DataFrame(rows, columns=_COLUMNS).astype({**numbers, **types, "iscrowd": np.int64})


def _confidence(confidence: Floats, by: Any, members: list[int], settings: SelfTrainingSettings) -> float:
    """Confidence of one fused box. confidence, by: confidence and source of all boxes of the image and finding."""
    total = weight = 0.0
    for source, source_weight in enumerate((settings.teacher_weight, settings.student_weight)):
        if (by == source).any():
            weight += source_weight
            total += source_weight * max((float(confidence[m]) for m in members if by[m] == source), default=0.0)
    return total / weight


def _keys(boxes: pd.DataFrame) -> list[Pair]:
    return list(zip(boxes["image_id"], boxes["finding"], strict=True))


def _of_pairs(boxes: pd.DataFrame, pairs: set[Pair]) -> pd.DataFrame:
    kept = np.array([pair in pairs for pair in _keys(boxes)], dtype=bool)
    return boxes[kept].reset_index(drop=True) if len(boxes) else boxes


def _in_order(boxes: pd.DataFrame, labels: CocoBoxes) -> pd.DataFrame:
    """Sort by image, then finding, the most confident first."""
    row_of = {image_id: row for row, image_id in enumerate(labels.images["image_id"])}
    column_of = {name: column for column, name in enumerate(labels.findings)}
    rows = boxes["image_id"].map(row_of).to_numpy(dtype=np.int64)
    columns = boxes["finding"].map(column_of).to_numpy(dtype=np.int64)
    confidence = boxes["confidence"].to_numpy(dtype=np.float64)
    return boxes.iloc[np.lexsort((-confidence, columns, rows))].reset_index(drop=True)

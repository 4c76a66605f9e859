"""Boxes of a finding that are also boxes of its parent: a consolidation is a lung opacity.

Whether readers draw them so is a habit of a data set, so the tune split decides for each pair of findings. A parent's
boxes are often worse than its children's, since its map lights up for all of them at once.
"""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.boxes import iou_matrix, weighted_boxes_fusion
from cxr.coco import CocoBoxes
from cxr.labels import PARENTS

log = logging.getLogger("raybox")

SAME_IOU = 0.5
"""A reader's box of the child and one of the parent that overlap so much mark the same thing."""

MIN_SHARE, MIN_BOXES = 0.5, 5
"""A pair counts when of at least so many children's boxes at least this share are also the parent's."""

_CORNERS = ["x1", "y1", "x2", "y2"]
_KEY = ["image_id", "finding"]


@dataclass(frozen=True)
class Kinship:
    """Child -> (parent, share of the child's boxes that readers also marked as the parent)."""

    parent_of: dict[str, tuple[str, float]]

    def __bool__(self) -> bool:
        return bool(self.parent_of)


def find_kinship(readers: CocoBoxes) -> Kinship:
    """Pairs of `cxr.labels.PARENTS` that readers' boxes bear out; grandparents count as parents of their own."""
    boxes = readers.without_ignored().boxes
    corners = {key: own[_CORNERS].to_numpy(dtype=np.float64) for key, own in boxes.groupby(_KEY, sort=False)}
    found = {}
    for child in readers.findings:
        shares = {parent: _share(corners, child, parent) for parent in _ancestors(child, readers.findings)}
        known = {parent: share for parent, share in shares.items() if share >= MIN_SHARE}
        if known:
            parent = max(known, key=lambda name: known[name])
            found[child] = (parent, known[parent])
    return Kinship(found)


def _ancestors(child: str, findings: tuple[str, ...]) -> list[str]:
    names = []
    while (child := PARENTS.get(child, "")) != "":
        names.append(child)
    return [name for name in names if name in findings]


def _share(corners: dict[tuple[str, str], np.ndarray], child: str, parent: str) -> float:
    """Of the child's boxes, those that a box of the parent marks too; 0 where there are too few to tell."""
    best = []
    for (image_id, finding), own in corners.items():
        if finding == child:
            others = corners.get((image_id, parent), np.zeros((0, 4)))
            best += iou_matrix(own, others).max(axis=1, initial=0.0).tolist()
    return float(np.mean(np.array(best) >= SAME_IOU)) if len(best) >= MIN_BOXES else 0.0


def with_parents_boxes(labels: CocoBoxes, kinship: Kinship) -> CocoBoxes:
    """Add children's boxes to their parent's where the label affirms the parent, or the parent has a box.

    A child's box counts for the parent with its confidence times the pair's share. Boxes of the parent that lie on one
    another are fused by weighted boxes fusion, with the highest confidence among them.
    """
    if not kinship:
        return labels
    boxes = labels.boxes.reset_index(drop=True)
    is_box = pd.Series(~labels.is_ignored, boxes.index)
    parents = _affirmed(labels, {parent for parent, _ in kinship.parent_of.values()})
    added = [
        _as_parent(boxes[is_box & (boxes["finding"] == child)], *told)
        for child, told in kinship.parent_of.items()
    ]
    more = pd.concat(added, ignore_index=True)
    more = more[[pair in parents for pair in zip(more["image_id"], more["finding"], strict=True)]]
    own = pd.Series(
        [pair in parents for pair in zip(boxes["image_id"], boxes["finding"], strict=True)], boxes.index
    )
    together = pd.concat([boxes[is_box & own], more], ignore_index=True)
    fused = [_fused(part) for _, part in together.groupby(_KEY, sort=False)]
    log.info("stage3: %d boxes of findings are also their parents': %s", len(more), _words(kinship))
    table = pd.concat([boxes[~(is_box & own)], *fused], ignore_index=True)
    return labels.with_boxes(table.sort_values("image_id", kind="stable", ignore_index=True))


def _affirmed(labels: CocoBoxes, parents: set[str]) -> set[tuple[str, str]]:
    """Images and parents: the label says 1, or there is a box and no label."""
    real = labels.without_ignored().boxes
    pairs = {(i, name) for i, name in zip(real["image_id"], real["finding"], strict=True) if name in parents}
    if "labels" not in labels.images:
        return pairs
    told = zip(labels.images["image_id"], labels.images["labels"], strict=True)
    return pairs | {(i, name) for i, label in told for name in parents if (label or {}).get(name) == 1}


def _as_parent(boxes: pd.DataFrame, parent: str, share: float) -> pd.DataFrame:
    confidence = boxes["confidence"].fillna(1.0) if "confidence" in boxes else 1.0
    return boxes.assign(finding=parent, confidence=confidence * share)


def _fused(boxes: pd.DataFrame) -> pd.DataFrame:
    """Boxes of one image and finding, those that lie on one another as one."""
    if len(boxes) == 1:
        return boxes
    confidence = boxes["confidence"].fillna(1.0).to_numpy(dtype=np.float64)
    corners, _, members = weighted_boxes_fusion(boxes[_CORNERS].to_numpy(), confidence, iou=SAME_IOU)
    first = boxes.iloc[[own[int(np.argmax(confidence[own]))] for own in members]]
    return first.assign(**dict(zip(_CORNERS, corners.T, strict=True)))


def _words(kinship: Kinship) -> str:
    pairs = kinship.parent_of.items()
    return ", ".join(f"{child} -> {parent} ({share:.0%} by readers)" for child, (parent, share) in pairs)

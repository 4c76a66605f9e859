"""Copy a finding's boxes to its parent finding: a consolidation is also a lung opacity.

Whether readers mark both depends on the data set, so the tune split decides for each pair of findings. Copying helps
because a parent's own boxes are often worse: its map lights up for all of its children at once.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from cxr.boxes import CORNERS, Boxes, iou_matrix, weighted_boxes_fusion
from cxr.coco import CocoBoxes
from cxr.labels import ancestors

log = logging.getLogger("raybox")

SAME_IOU = 0.5
"""A reader's box of the child and one of the parent that overlap at least this much mark the same thing."""

MIN_SHARE, MIN_BOXES = 0.5, 5
"""A pair is used if at least this share of at least so many boxes of the child are also marked as the parent."""

_KEY = ["image_id", "finding"]

Pair = tuple[str, str]
"""Image id and finding."""


ParentShares = Mapping[tuple[str, str], float]
"""(child, parent) -> share of the child's boxes that readers also mark as the parent."""


def find_parent_shares(readers: CocoBoxes, parents: Mapping[str, str]) -> ParentShares:
    """Pairs of the tree that the readers' boxes confirm. A grandparent counts as a parent too. parents: child ->
    parent."""
    boxes = readers.without_ignored().boxes
    corners = {key: own[CORNERS].to_numpy(dtype=np.float64) for key, own in boxes.groupby(_KEY, sort=False)}
    shares = {
        (child, parent): _share(corners, child, parent)
        for child in readers.findings
        for parent in ancestors(child, parents)
        if parent in readers.findings
    }
    return {pair: share for pair, share in shares.items() if share >= MIN_SHARE}


def _share(corners: Mapping[Any, Boxes], child: str, parent: str) -> float:
    """Share of the child's boxes that overlap a box of the parent; 0 if there are fewer than MIN_BOXES."""
    best = []
    for (image_id, finding), own in corners.items():
        if finding == child:
            others = corners.get((image_id, parent), np.zeros((0, 4)))
            best += iou_matrix(own, others).max(axis=1, initial=0.0).tolist()
    return float(np.mean(np.array(best) >= SAME_IOU)) if len(best) >= MIN_BOXES else 0.0


def with_parents_boxes(labels: CocoBoxes, parent_shares: ParentShares, *, min_score: float = 0.0) -> CocoBoxes:
    """Add the child's boxes to the parent in images whose label affirms the parent, or does not mention it and the
    parent has a box.

    The confidence of an added box is the child's confidence times the pair's share. Overlapping boxes of the parent
    are merged by weighted boxes fusion and keep the highest confidence. Ignore regions and boxes below `min_score` are
    not changed.
    """
    if not parent_shares:
        return labels
    boxes = labels.boxes.reset_index(drop=True)
    is_box = pd.Series(~labels.is_ignored, boxes.index) & ~(boxes["score"] < min_score)
    affirmed = _affirmed(labels, boxes[is_box], {parent for _, parent in parent_shares})
    sure = boxes.assign(confidence=boxes["confidence"].fillna(1.0) if "confidence" in boxes else 1.0)
    added = []
    for (child, parent), share in parent_shares.items():
        own = sure[is_box & (sure["finding"] == child)]
        added.append(own.assign(finding=parent, confidence=own["confidence"] * share))
    more = pd.concat(added, ignore_index=True)
    more = more[_among(more, affirmed)]
    changed = is_box & _among(boxes, affirmed)
    together = pd.concat([boxes[changed], more], ignore_index=True)
    fused = [_fused(part) for _, part in together.groupby(_KEY, sort=False)]
    words = [f"{child} -> {parent} ({share:.0%} by readers)" for (child, parent), share in parent_shares.items()]
    log.info("stage3: copied %d boxes to parent findings: %s", len(more), ", ".join(words))
    table = pd.concat([boxes[~changed], *fused], ignore_index=True)
    return labels.with_boxes(table.sort_values("image_id", kind="stable", ignore_index=True))


def with_implied_parents(corrections: CocoBoxes, parent_shares: ParentShares) -> CocoBoxes:
    """Add a child's boxes to a parent that readers affirm, but did not mark. All other boxes stay as they are."""
    marked = set(zip(corrections.boxes["image_id"], corrections.boxes["finding"], strict=True))
    implied = [
        {name: int(label == 1 and (image_id, name) not in marked) for name, label in labels.items()}
        for image_id, labels in zip(corrections.images["image_id"], corrections.images["labels"], strict=True)
    ]
    images = corrections.images.assign(labels=pd.Series(implied, dtype=object))
    added = with_parents_boxes(replace(corrections, images=images), parent_shares)
    return corrections.with_boxes(added.boxes)


def _affirmed(labels: CocoBoxes, boxes: pd.DataFrame, parents: set[str]) -> set[Pair]:
    """Images and parents whose label is 1, or that have a box and no label."""
    boxed = {pair for pair in zip(boxes["image_id"], boxes["finding"], strict=True) if pair[1] in parents}
    if labels.label_matrix is None:
        return boxed
    by_image = dict(zip(labels.images["image_id"], labels.label_matrix, strict=True))
    column = {name: labels.findings.index(name) for name in parents}
    silent = {(i, name) for i, name in boxed if np.isnan(by_image[i][column[name]])}
    return silent | {(i, name) for i, row in by_image.items() for name in parents if row[column[name]] == 1}


def _among(boxes: pd.DataFrame, pairs: set[Pair]) -> "pd.Series[bool]":
    found = [pair in pairs for pair in zip(boxes["image_id"], boxes["finding"], strict=True)]
    return pd.Series(found, boxes.index, dtype=np.bool_)


def _fused(boxes: pd.DataFrame) -> pd.DataFrame:
    """Boxes of one image and finding with overlapping ones merged."""
    if len(boxes) == 1:
        return boxes
    confidence = boxes["confidence"].fillna(1.0).to_numpy(dtype=np.float64)
    corners, _, members = weighted_boxes_fusion(boxes[CORNERS].to_numpy(), confidence, iou=SAME_IOU)
    first = boxes.iloc[[own[int(np.argmax(confidence[own]))] for own in members]]
    return first.assign(**dict(zip(CORNERS, corners.T, strict=True)))

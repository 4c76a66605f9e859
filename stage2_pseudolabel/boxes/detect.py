"""Boxes of a split by the rule of each finding, in pixels of the images, with scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.arrays import Floats, Ints
from cxr.coco import BOX_FIELDS, CocoBoxes
from stage2_pseudolabel.boxes.fused_rule import AnyRule, find_boxes
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.rule import Boxes, Maps


@dataclass(frozen=True)
class Scored:
    """Maps (N, K, h, w) by one method and probabilities (N, K) of N images and K findings.

    further: maps by other methods whose boxes are fused with those of the first (see `FusedRule`); sizes may differ.
    """

    maps: Maps
    probabilities: Floats
    further: tuple[Maps, ...] = ()

    @property
    def by_method(self) -> "list[Scored]":
        """Each method alone."""
        return [Scored(maps, self.probabilities) for maps in (self.maps, *self.further)]

    def of(self, rows: Sequence[int] | slice, columns: Sequence[int] | slice) -> "Scored":
        """Some images and findings."""
        maps, *further = (own[rows][:, columns] for own in (self.maps, *self.further))
        return Scored(maps, self.probabilities[rows][:, columns], tuple(further))


def detect(
    scored: Scored, truth: CocoBoxes, rules: Sequence[AnyRule], *, frame: Frame, leave_own_out: bool = False
) -> pd.DataFrame:
    """Boxes of all findings in all images, whatever their probability; score = probability x evidence.

    Args:
        scored: images and findings in the order of `truth`.
        rules: (K,), one per finding.
        leave_own_out: do not use the true boxes of the image's own patient; needed where rules come from `truth`.

    Returns:
        table of cxr.coco.BOX_FIELDS, by image, then finding, the strongest first.
    """
    patients = truth.groups if leave_own_out else None
    stacks = (scored.maps, *scored.further)
    found = [
        find_boxes(rule, [maps[:, column] for maps in stacks], patients=patients) for column, rule in enumerate(rules)
    ]
    column = np.repeat(np.arange(len(found)), [len(one) for one in found])
    image = np.concatenate([np.zeros(0, dtype=np.int64), *(one.image for one in found)])
    order = np.argsort(image, kind="stable")
    image, column = image[order], column[order]
    boxes = np.concatenate([np.zeros((0, 4)), *(one.boxes for one in found)])[order]
    evidence = np.concatenate([np.zeros(0), *(one.evidence for one in found)])[order]
    boxes = image_boxes(boxes, sizes_hw_of(truth)[image], frame=frame)
    table = {
        "image_id": truth.images["image_id"].to_numpy(dtype=object)[image],
        "finding": np.array(truth.findings, dtype=object)[column],
        **dict(zip(BOX_FIELDS[2:6], boxes.T, strict=True)),
        "score": scored.probabilities[image, column] * evidence,
    }
    return pd.DataFrame(table).astype({"image_id": object, "finding": object})


def image_boxes(boxes: Boxes, sizes_hw: Ints, *, frame: Frame) -> Boxes:
    """(D, 4) boxes in shares of their maps to pixels of their images of (D, 2) height and width."""
    placed = np.zeros_like(boxes)
    if not len(boxes):
        return placed
    order = np.lexsort(sizes_hw.T)
    cuts = np.flatnonzero(np.diff(sizes_hw[order], axis=0).any(axis=1)) + 1
    for own in np.split(order, cuts):
        height, width = sizes_hw[own[0]].tolist()
        placed[own] = frame.to_image(boxes[own], (height, width))
    return placed


def sizes_hw_of(truth: CocoBoxes) -> Ints:
    """(N, 2) height and width of the images in pixels."""
    return truth.images[["height", "width"]].to_numpy(dtype=np.int64)

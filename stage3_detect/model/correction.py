"""Where a detector's boxes lie wrong on average, measured on the tune split and put right.

A detector that learns from boxes with random errors puts out boxes that are too large: the larger box has the better
expected overlap with a place that is not known for sure. The error is nearly the same in all images of a finding, so a
few dozen readers' boxes are enough to measure it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxr.arrays import Floats
from cxr.boxes import CORNERS, Boxes, iou_matrix
from cxr.coco import CocoBoxes

MIN_IOU = 0.1
"""A detection and a true box that overlap so much are taken for the same thing, the best detection for each box."""

PRIOR_BOXES = 5
"""The median of n boxes counts n / (n + PRIOR_BOXES): a finding with few true boxes is hardly corrected."""

NO_SHIFT = (0.0, 0.0, 0.0, 0.0)

Shift = tuple[float, float, float, float]
"""Centre x and y in widths and heights of the true box; logarithms of width and height over the true ones."""


@dataclass(frozen=True)
class BoxCorrection:
    """Finding -> what its boxes are off by; a finding that is not there is left as it is."""

    shifts: Mapping[str, Shift]

    def of_boxes(self, xyxy: Boxes, names: Sequence[str]) -> Boxes:
        """(N, 4) boxes of the findings `names` (N,), put right; also outside of the picture."""
        if not self.shifts:
            return xyxy
        shifts = np.array([self.shifts.get(name, NO_SHIFT) for name in names]).reshape(-1, 4)
        centres, sizes = (xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]
        sizes = sizes / np.exp(shifts[:, 2:])
        centres = centres - shifts[:, :2] * sizes
        return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)

    def factors(self, name: str) -> Shift:
        """What is done to boxes of a finding: moved right and down by so many of their new widths and heights, their
        widths and heights multiplied."""
        x, y, width, height = self.shifts.get(name, NO_SHIFT)
        return -x + 0.0, -y + 0.0, math.exp(-width), math.exp(-height)

    def of_table(self, detections: CocoBoxes) -> CocoBoxes:
        """Detections put right and cut to their images."""
        boxes = detections.boxes
        corners = self.of_boxes(boxes[CORNERS].to_numpy(dtype=np.float64), boxes["finding"].tolist())
        sizes = detections.images.set_index("image_id")[["width", "height"]].astype(np.float64)
        limits = sizes.loc[boxes["image_id"]].to_numpy()
        corners = np.clip(corners, 0, np.tile(limits, 2))
        table = boxes.assign(**dict(zip(CORNERS, corners.T, strict=True)))
        inside = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
        return detections.with_boxes(table[inside].reset_index(drop=True))

    def as_dict(self) -> dict[str, list[float]]:
        """For JSON."""
        return {name: list(shift) for name, shift in self.shifts.items()}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "BoxCorrection":
        """Back from `as_dict`."""
        return cls({name: (float(x), float(y), float(w), float(h)) for name, (x, y, w, h) in told.items()})


NO_CORRECTION = BoxCorrection({})


def fit_correction(detections: CocoBoxes, truth: CocoBoxes) -> BoxCorrection:
    """Medians over the true boxes that a detection overlaps, drawn towards no shift by `PRIOR_BOXES`.

    Args:
        detections, truth: of the tune split. Detections in images without the finding play no part.
    """
    known = truth.without_ignored().boxes
    found = {
        key: own[CORNERS].to_numpy(dtype=np.float64)
        for key, own in detections.boxes.groupby(["image_id", "finding"])
    }
    shifts: dict[str, list[Floats]] = {name: [] for name in truth.findings}
    for (image_id, name), own in known.groupby(["image_id", "finding"], sort=False):
        boxes = found.get((image_id, name))
        if boxes is not None:
            shifts[name].append(_shifts(boxes, own[CORNERS].to_numpy(dtype=np.float64)))
    return BoxCorrection({name: _drawn_in(rows) for name, rows in shifts.items() if sum(map(len, rows))})


def _shifts(boxes: Boxes, true: Boxes) -> Floats:
    """(n, 4) of the true boxes that a detection overlaps, each against the one that overlaps it most."""
    overlaps = iou_matrix(boxes, true)
    best = overlaps.argmax(axis=0)
    met = overlaps[best, np.arange(len(true))] >= MIN_IOU
    ours, theirs = boxes[best[met]], true[met]
    sizes = theirs[:, 2:] - theirs[:, :2]
    centres = ((ours[:, :2] + ours[:, 2:]) - (theirs[:, :2] + theirs[:, 2:])) / 2 / sizes
    return np.concatenate([centres, np.log((ours[:, 2:] - ours[:, :2]) / sizes)], axis=1)


def _drawn_in(rows: Sequence[Floats]) -> Shift:
    table = np.concatenate(rows)
    x, y, width, height = np.median(table, axis=0) * len(table) / (len(table) + PRIOR_BOXES)
    assert all(map(math.isfinite, (x, y, width, height))), "boxes have a size"
    return float(x), float(y), float(width), float(height)

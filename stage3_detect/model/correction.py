"""Measure the mean error in position and size of a detector's boxes on the tune split, and correct it.

A detector trained on boxes with random errors predicts boxes that are too large, because a larger box has a better
expected overlap with an uncertain location. The error is similar in all images of a finding, so a few dozen readers'
boxes are enough to measure it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr.arrays import Floats
from cxr.boxes import CORNERS, Boxes, iou_matrix

if TYPE_CHECKING:
    from cxr.coco import CocoBoxes  # needs pandas, which the service does not have

MIN_IOU = 0.1
"""Each true box is matched with the detection that overlaps it most, if their IoU is at least this."""

PRIOR_BOXES = 5
"""The median of n boxes is multiplied by n / (n + PRIOR_BOXES), so few true boxes correct little."""

NO_SHIFT = (0.0, 0.0, 0.0, 0.0)

Shift = tuple[float, float, float, float]
"""Error of the centre in widths and heights of the true box, and log ratios of width and height to the true ones."""


@dataclass(frozen=True)
class BoxCorrection:
    """Finding -> mean error of its boxes. Boxes of other findings are not changed."""

    shifts: Mapping[str, Shift]

    def of_boxes(self, xyxy: Boxes, names: Sequence[str]) -> Boxes:
        """Correct (N, 4) boxes of the findings `names` (N,); the result may exceed the picture."""
        if not self.shifts:
            return xyxy
        shifts = np.array([self.shifts.get(name, NO_SHIFT) for name in names]).reshape(-1, 4)
        centres, sizes = (xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]
        sizes = sizes / np.exp(shifts[:, 2:])
        centres = centres - shifts[:, :2] * sizes
        return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)

    def factors(self, name: str) -> Shift:
        """The correction for a finding: shift right and down in corrected widths and heights, and the factors of width
        and height."""
        x, y, width, height = self.shifts.get(name, NO_SHIFT)
        return -x + 0.0, -y + 0.0, math.exp(-width), math.exp(-height)

    def of_table(self, detections: "CocoBoxes") -> "CocoBoxes":
        """Correct detections and clip them to their images."""
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
    def from_dict(cls, values: Mapping[str, Any]) -> "BoxCorrection":
        """Inverse of `as_dict`."""
        return cls({name: (float(x), float(y), float(w), float(h)) for name, (x, y, w, h) in values.items()})


NO_CORRECTION = BoxCorrection({})


def fit_correction(detections: "CocoBoxes", truth: "CocoBoxes") -> BoxCorrection:
    """Median errors per finding over the matched true boxes, shrunk towards zero by `PRIOR_BOXES`.

    Args:
        detections: of the tune split. Those in images without the finding are not used.
        truth: the true boxes of the tune split.
    """
    known = truth.without_ignored().boxes
    found = {
        key: own[CORNERS].to_numpy(dtype=np.float64) for key, own in detections.boxes.groupby(["image_id", "finding"])
    }
    shifts: dict[str, list[Floats]] = {name: [] for name in truth.findings}
    for (image_id, name), own in known.groupby(["image_id", "finding"], sort=False):
        boxes = found.get((image_id, name))
        if boxes is not None:
            shifts[str(name)].append(_shifts(boxes, own[CORNERS].to_numpy(dtype=np.float64)))
    return BoxCorrection({name: _shrunk(rows) for name, rows in shifts.items() if sum(map(len, rows))})


def _shifts(boxes: Boxes, true: Boxes) -> Floats:
    """(n, 4) errors of the best detection of each matched true box."""
    overlaps = iou_matrix(boxes, true)
    best = overlaps.argmax(axis=0)
    met = overlaps[best, np.arange(len(true))] >= MIN_IOU
    ours, theirs = boxes[best[met]], true[met]
    sizes = theirs[:, 2:] - theirs[:, :2]
    centres = ((ours[:, :2] + ours[:, 2:]) - (theirs[:, :2] + theirs[:, 2:])) / 2 / sizes
    return np.concatenate([centres, np.log((ours[:, 2:] - ours[:, :2]) / sizes)], axis=1)


def _shrunk(rows: Sequence[Floats]) -> Shift:
    table = np.concatenate(rows)
    x, y, width, height = np.median(table, axis=0) * len(table) / (len(table) + PRIOR_BOXES)
    assert all(map(math.isfinite, (x, y, width, height))), "boxes without a size"
    return float(x), float(y), float(width), float(height)

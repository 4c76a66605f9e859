"""Boxes that look wrong: their size, shape and place in the image, repetitions, and labels that contradict them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cxr.arrays import Bools, Floats
from cxr.boxes import CORNERS, iou_matrix
from cxr.tables import Dataset

MIN_AREA, MAX_AREA = 0.001, 0.5
"""Share of the image that a box covers at least and at most; outside of these limits it is pointed out."""
MAX_ASPECT = 5.0
"""Longer side over shorter side."""
MARGIN = 0.05
"""The outer part of each side of an image, where a frontal radiograph rarely shows the lungs."""
DUPLICATE_IOU = 0.8

FLAGS = {
    "tiny": f"covers less than {MIN_AREA:.1%} of the image",
    "huge": f"covers more than {MAX_AREA:.0%} of the image",
    "elongated": f"one side is more than {MAX_ASPECT:g} times the other",
    "at the border": f"more than half of it lies in the outer {MARGIN:.0%} of a side, where lungs rarely are",
    "repeated": f"overlaps an earlier box of the same finding and reader with an IoU of {DUPLICATE_IOU:g} or more",
    "label says no": "the image's label says that the finding is absent",
}
"""What can look wrong -> when."""

MEASURES = ("width", "height", "area", "aspect", "center_x", "center_y")
"""Relative to the image (aspect: longer over shorter side in pixels); NaN where the size of the image is unknown."""


def measure_boxes(data: Dataset, sizes_hw: pd.DataFrame) -> pd.DataFrame:
    """The boxes with the columns `MEASURES` and, True or False, `FLAGS`.

    sizes_hw: columns height and width by image id, for images that can be decoded.
    """
    boxes = data.boxes[["image_id", "finding", *CORNERS, "reader"]].reset_index(drop=True)
    height, width = (boxes["image_id"].map(sizes_hw[name]).to_numpy(np.float64) for name in ("height", "width"))
    corners = boxes[CORNERS].to_numpy(np.float64).reshape(-1, 4)
    sides = corners[:, 2:] - corners[:, :2]
    relative = corners / np.stack([width, height, width, height], axis=1)
    boxes["width"], boxes["height"] = (relative[:, 2:] - relative[:, :2]).T
    boxes["area"] = boxes["width"] * boxes["height"]
    boxes["aspect"] = sides.max(axis=1, initial=0) / sides.min(axis=1, initial=np.inf)
    boxes["center_x"], boxes["center_y"] = ((relative[:, 2:] + relative[:, :2]) / 2).T
    region = boxes["image_id"].map(data.images.set_index("image_id")["region"])
    flags: dict[str, Bools] = {
        "tiny": (boxes["area"] < MIN_AREA).to_numpy(bool),
        "huge": (boxes["area"] > MAX_AREA).to_numpy(bool),
        "elongated": (boxes["aspect"] > MAX_ASPECT).to_numpy(bool),
        "at the border": _at_border(relative, is_half=(region != "full").to_numpy(bool)),
        "repeated": _repeated(boxes),
        "label says no": _denied(boxes, data.labels),
    }
    return boxes.assign(**flags)


def unboxed(data: Dataset, finding: str) -> int:
    """Number of images that are labelled positive for a finding with boxes, but have none of it."""
    if finding not in data.labels.columns:
        return 0
    own = set(data.boxes.loc[data.boxes["finding"] == finding, "image_id"])
    positive = data.labels.index[data.labels[finding] == 1]
    return sum(image_id not in own for image_id in positive)


def _at_border(relative: Floats, *, is_half: Bools) -> Bools:
    """(N,) whether less than half of a box lies inside of the margins. Halves of images have none at their right, the
    midline of the chest."""
    right = np.where(is_half, 1.0, 1 - MARGIN)
    low = np.maximum(relative[:, :2], MARGIN)
    high = np.minimum(relative[:, 2:], np.stack([right, np.full(len(relative), 1 - MARGIN)], axis=1))
    inside = np.clip(high - low, 0, None).prod(axis=1)
    whole = (relative[:, 2:] - relative[:, :2]).prod(axis=1)
    return np.asarray(inside < 0.5 * whole, dtype=bool)


def _repeated(boxes: pd.DataFrame) -> Bools:
    repeated = np.zeros(len(boxes), dtype=bool)
    for _, own in boxes.groupby(["image_id", "finding", "reader"], sort=False):
        if len(own) > 1:
            overlaps = np.triu(iou_matrix(own[CORNERS].to_numpy(), own[CORNERS].to_numpy()), k=1)
            repeated[own.index] = (overlaps >= DUPLICATE_IOU).any(axis=0)
    return repeated


def _denied(boxes: pd.DataFrame, labels: pd.DataFrame) -> Bools:
    """(N,) whether the label of a box's finding in its image is 0."""
    denied = np.zeros(len(boxes), dtype=bool)
    for finding, own in boxes.groupby("finding", sort=False):
        if finding in labels.columns:
            denied[own.index] = (labels.loc[own["image_id"], str(finding)] == 0).to_numpy()
    return denied


def suspicious(boxes: pd.DataFrame, flags: Sequence[str] = tuple(FLAGS)) -> pd.DataFrame:
    """The boxes with at least one flag."""
    return boxes[boxes[list(flags)].any(axis=1)]

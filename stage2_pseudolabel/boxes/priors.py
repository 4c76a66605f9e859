"""Boxes without a map: the mean box of a finding, and a box in the centre.

Their score is the classifier's probability, as for the CAM methods, so a method that beats them has better *places*.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.coco import CocoBoxes, boxes_table

CENTER_BOX: tuple[float, float, float, float] = (0.25, 0.25, 0.75, 0.75)
"""Half of each side, in the middle; shares of width and height."""

BoxNorm = tuple[float, float, float, float]


def mean_boxes(tune: CocoBoxes) -> dict[str, BoxNorm]:
    """Mean corners of each finding's boxes, without regions (iscrowd), in shares of the image; else the centre box."""
    sizes = tune.images.set_index("image_id")[["width", "height"]].astype(float)
    boxes = tune.boxes
    if "iscrowd" in boxes:
        boxes = boxes[(boxes["iscrowd"] == 0).to_numpy()]
    per_box = sizes.loc[boxes["image_id"]].to_numpy()
    corners = boxes[["x1", "y1", "x2", "y2"]].to_numpy(dtype=np.float64) / np.tile(per_box, 2)
    means: dict[str, BoxNorm] = {}
    for finding in tune.findings:
        own = corners[(boxes["finding"] == finding).to_numpy()]
        x1, y1, x2, y2 = (float(value) for value in own.mean(axis=0)) if len(own) else CENTER_BOX
        means[finding] = (x1, y1, x2, y2)
    return means


def prior_detections(
    truth: CocoBoxes, boxes_norm: Mapping[str, BoxNorm], probabilities: npt.NDArray[np.float64]
) -> pd.DataFrame:
    """The same box per finding in every image; the score is the probability (N, K) of the finding there."""
    rows: list[tuple[object, ...]] = []
    images = truth.images[["image_id", "width", "height"]].to_numpy().tolist()
    for index, (image_id, width, height) in enumerate(images):
        for column, finding in enumerate(truth.findings):
            box = np.array(boxes_norm[finding]) * [width, height, width, height]
            rows.append((image_id, finding, *box, probabilities[index, column]))
    return boxes_table(rows)

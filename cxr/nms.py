"""Non-maximum suppression, by OpenCV; apart from `cxr/boxes.py`, so that box arithmetic needs no OpenCV."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cxr.arrays import Ints


def suppress(xyxy: npt.NDArray[np.float32], max_iou: float) -> Ints:
    """Non-maximum suppression: the rows (n,) of the boxes (N, 4), highest score first, that no better box suppresses.

    A box is suppressed if its IoU with a better box that stays is above `max_iou`. Empty and inverted boxes stay.

    >>> suppress(np.array([[0, 0, 10, 10], [0, 0, 10, 8], [20, 0, 30, 10]], np.float32), 0.5)
    array([0, 2])
    """
    xywh = xyxy.astype(np.float64)
    xywh[:, 2:] -= xywh[:, :2]
    has_area = (xywh[:, 2] > 0) & (xywh[:, 3] > 0)
    rows, stays = np.flatnonzero(has_area), ~has_area
    if len(rows):
        boxes: Any = xywh[rows]  # OpenCV's annotations ask for lists
        ranks: Any = np.arange(len(rows), 0, -1, dtype=np.float32)
        stays[rows[np.asarray(cv2.dnn.NMSBoxes(boxes, ranks, score_threshold=0, nms_threshold=max_iou))]] = True
    return np.flatnonzero(stays)

"""The protocol of ChEX for the detection of findings, as one measure.

Source: Müller, Kaissis and Rueckert, ChEX: Interactive Localization and Region Description in Chest X-rays, ECCV 2024;
the numbers are the defaults of its published code.
"""

from dataclasses import replace

import numpy as np

from cxr.nms import suppress
from eval.detection.average_precision import averaged_ap_measure
from eval.detection.indexed import IndexedDetections
from eval.stats.measures import Measure

CHEX_IOUS = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75)
CHEX_NMS_IOU = 0.25


def chex_measure(boxes: IndexedDetections) -> Measure:
    """ChEX's mAP of each class, "chex_map": COCO's AP averaged over the IoU thresholds .4, .45, ..., .75, after
    non-maximum suppression of each class at IoU .25.

    ChEX fuses the boxes of several readers by weighted boxes fusion at IoU .1: stage 2 does so with
    ``readers: {rule: wbf, iou: 0.1}``.
    """
    return averaged_ap_measure("chex_map", without_overlaps(boxes, CHEX_NMS_IOU).match(CHEX_IOUS), CHEX_IOUS)


def without_overlaps(boxes: IndexedDetections, max_iou: float) -> IndexedDetections:
    """The same without detections that overlap a better one of their image and class by an IoU above `max_iou`."""
    order = np.lexsort((-boxes.scores, boxes.cell))
    cells = np.split(order, np.flatnonzero(np.diff(boxes.cell[order])) + 1)
    corners = boxes.boxes.astype(np.float32)
    rows = np.sort(np.concatenate([own[suppress(corners[own], max_iou)] for own in cells]))
    detections = boxes.detections
    return IndexedDetections(boxes.true.truth, replace(detections, boxes=detections.boxes.iloc[rows]))

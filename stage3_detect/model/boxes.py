"""Detect boxes on one picture: preprocess, run the network, NMS, map back to original pixels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxr.boxes import Boxes, clip_boxes
from cxr.imaging.files import Pixels
from cxr.nms import suppress
from stage3_detect.model.correction import NO_CORRECTION, BoxCorrection
from stage3_detect.model.network import Network, RawOutput, to_net
from stage3_detect.settings.detector import PredictSettings

_CANDIDATES_PER_CLASS = 300
"""Number of best anchors per class that enter NMS; the scores of the others are negligible."""

ClassBoxes = tuple[RawOutput, npt.NDArray[np.float32]]
"""(N, 4) xyxy boxes and (N,) scores of one class, highest score first."""


@dataclass(frozen=True)
class Detections:
    """Boxes of one picture, highest score first: xyxy (N, 4) in its pixels, scores (N,) in [0, 1], classes (N,)."""

    xyxy: Boxes
    scores: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]


def detect(
    image: Pixels, network: Network, settings: PredictSettings, correction: BoxCorrection = NO_CORRECTION
) -> Detections:
    """Boxes of one picture (H, W) from `read_pixels` or `read_image`.

    Args:
        correction: fitted on boxes of the same network.
    """
    net_image, resize = to_net(image, network.image_px)
    output = network(net_image)
    found = read_output(output, settings)
    names = [network.findings[index] for index in found.classes]
    corners = correction.of_boxes(resize.boxes_to_image(found.xyxy), names)
    corners = clip_boxes(corners, resize.image_hw)
    kept = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    return Detections(corners[kept], found.scores[kept], found.classes[kept])


def read_output(output: RawOutput, settings: PredictSettings) -> Detections:
    """Decode the raw output of one picture to boxes in network pixels, highest score first."""
    limit = settings.max_boxes_per_class
    read, num_classes = _boxes_of_class, len(output) - 4
    if settings.nms_free:
        read, num_classes = _rows_of_class, int(output[:, 5].max(initial=-1)) + 1
    # class by class with few anchors each: one NMS over all pairs would cost more than the network
    parts = [read(output, index, settings) for index in range(num_classes)]
    boxes = np.concatenate([np.zeros((0, 4)), *(xyxy[:limit] for xyxy, _ in parts)])
    scores = np.concatenate([np.zeros(0), *(values[:limit] for _, values in parts)])
    counts = [min(limit, len(values)) for _, values in parts]
    classes = np.repeat(np.arange(num_classes), counts)
    order = np.argsort(-scores, kind="stable")
    return Detections(boxes[order], scores[order], classes[order].astype(np.int64))


def _boxes_of_class(output: RawOutput, index: int, settings: PredictSettings) -> ClassBoxes:
    """Best anchors of a class after NMS. An anchor may be used by several classes."""
    scores = output[4 + index]
    anchors = np.flatnonzero(scores >= settings.min_score)
    if not len(anchors):
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    values = scores[anchors]
    if len(anchors) > _CANDIDATES_PER_CLASS:
        best = np.argpartition(-values, _CANDIDATES_PER_CLASS)[:_CANDIDATES_PER_CLASS]
        anchors, values = anchors[best], values[best]
    order = np.argsort(-values, kind="stable")
    anchors, values = anchors[order], values[order]
    x, y, width, height = output[:4, anchors]
    xyxy = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
    kept = suppress(xyxy, settings.nms_iou)
    return xyxy[kept], values[kept]


def _rows_of_class(output: RawOutput, index: int, settings: PredictSettings) -> ClassBoxes:
    rows = output[(output[:, 5] == index) & (output[:, 4] >= settings.min_score)]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    return rows[:, :4], rows[:, 4]

"""Localisation in images that have the class: CorLoc, T(IoU), T(IoBB), mIoU, the pointing game and MaxBoxAccV2.

False alarms in other images do not count. All are NaN for a class that no image has.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.arrays import Bools, Floats
from cxr.coco import CocoBoxes
from cxr.config import UserError
from eval.detection.indexed import IndexedDetections, Overlap, TruthIndex, check_detections, corners_of
from eval.stats.bootstrap import Counts
from eval.stats.measures import Measure, share_measure


def corloc_measure(boxes: IndexedDetections, *, iou: float = 0.5) -> Measure:
    """CorLoc, correct localisation: share of the images with a class whose best-scored box of it is right.

    A box is right if its IoU with any true box of the class in the image is at least `iou`. An image without a box
    counts as wrong.

    Source: Deselaers, Alexe and Ferrari, Weakly supervised localization and learning with generic knowledge, IJCV 2012.
    """
    return _share("corloc", boxes.true, boxes.top_overlaps["iou"] >= iou)


def accuracy_measure(boxes: IndexedDetections, *, overlap: Overlap, threshold: float) -> Measure:
    """T(IoU) or T(IoBB): share of the images with a class whose best-scored box overlaps a true box by *more than* T.

    IoBB divides the intersection by the predicted box's area, so a small box inside a true one is right at any T. An
    image without a box counts as wrong. The measure's name is, for example, "iou_accuracy30" or "iobb_accuracy10".

    Source: Wang et al., ChestX-ray8, CVPR 2017. The paper allows several boxes per image; here the best-scored one
    represents the image.
    """
    name = f"{overlap}_accuracy{round(100 * threshold)}"
    return _share(name, boxes.true, boxes.top_overlaps[overlap] > threshold)


def mean_iou_measure(boxes: IndexedDetections) -> Measure:
    """mIoU: mean over the images with a class of the IoU between the best-scored box and the true box that it overlaps
    most; 0 for an image without a box. It is the area under T(IoU) over all thresholds from 0 to 1.
    """
    cases = (boxes.true.num_true > 0).astype(np.float64)
    overlaps = np.maximum(boxes.top_overlaps["iou"], 0.0) * cases
    return share_measure("mean_iou", boxes.true.findings, overlaps, cases)


def pointing_measure(true: TruthIndex, points: pd.DataFrame) -> Measure:
    """Pointing game: share of the images with a class whose point lies in or on a true box of it, without a tolerance.

    If the box has a mask, the point must lie in it.

    Source: Zhang et al., Top-down neural attention by excitation backprop, IJCV 2018. The paper grants a tolerance of
    15 pixels; medical images differ in scale.

    points: columns image_id, finding, x, y (pixels of the truth's boxes). A missing or NaN point counts as missed.
    Raises UserError for points of unknown images or classes, or several for one image and class.
    """
    check_detections(true.truth, true.truth.with_boxes(points.assign(score=0.0)))
    _refuse_repeated(points)
    cells = true.cells(points)
    hits = np.zeros(true.shape, dtype=bool)
    hits.ravel()[cells] = true.real.holds(cells, points[["x", "y"]].to_numpy(dtype=np.float64))
    return _share("pointing", true, hits)


def max_box_accuracy_measure(
    true: TruthIndex, boxes_at: Sequence[CocoBoxes], *, ious: Sequence[float] = (0.3, 0.5, 0.7)
) -> Measure:
    """MaxBoxAccV2: accuracy of boxes at the best threshold of the map, one threshold for all images of a class.

    An image with the class is right if *any* box has an IoU of at least delta with any true box. The best threshold is
    taken for each delta; the result is the mean over the deltas `ious`. **This is an upper bound**, because the
    threshold is chosen on the scored images (in each resample anew).

    Source: Choe et al., Evaluating weakly supervised object localization methods right, CVPR 2020, and its journal
    extension (V2: any box instead of the largest one, mean over three deltas).

    boxes_at: the boxes of all images and classes at each threshold; scores are not used.
    """
    right = np.stack([_any_right(true, found, ious) for found in boxes_at])
    cases = true.num_true > 0
    tables = [right[:, :, cases[:, k], k].astype(np.float32) for k in range(true.shape[1])]

    def resampled(counts: Counts) -> Floats:
        weights = counts.astype(np.float32)  # counts are small: their sums are exact
        values = [_best_share(weights[:, cases[:, k]], table) for k, table in enumerate(tables)]
        return np.stack(values, axis=1) if values else np.zeros((len(counts), 0))

    return Measure("maxboxaccv2", true.findings, resampled)


def _any_right(true: TruthIndex, found: CocoBoxes, ious: Sequence[float]) -> Bools:
    """(D, I, K) for each delta whether any box of the image and class overlaps a true box by at least delta."""
    check_detections(true.truth, found)
    cells = true.cells(found.boxes)
    overlap, _ = true.real.best(cells, corners_of(found.boxes))
    highest = np.zeros(true.shape[0] * true.shape[1])
    np.maximum.at(highest, cells, overlap)
    return np.stack([highest.reshape(true.shape) >= iou for iou in ious])


def _best_share(weights: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> Floats:
    """(R, C) weights of the images with the class, (S, D, C) right or not -> (R,) mean over D of the best of S."""
    num_thresholds, num_deltas, num_cases = right.shape
    sums = weights @ right.reshape(num_thresholds * num_deltas, num_cases).T
    best = sums.reshape(len(weights), num_thresholds, num_deltas).max(axis=1).mean(axis=1, dtype=np.float64)
    total = weights.sum(axis=1, dtype=np.float64)
    return np.where(total > 0, best / np.maximum(total, 1), np.nan)


def _share(name: str, true: TruthIndex, hits: Bools) -> Measure:
    cases = true.num_true > 0
    right, total = (hits & cases).astype(np.float64), cases.astype(np.float64)
    return share_measure(name, true.findings, right, total, independent=True)


def _refuse_repeated(points: pd.DataFrame) -> None:
    repeated = points[points.duplicated(["image_id", "finding"])]
    if len(repeated):
        first = repeated.iloc[0]
        raise UserError(
            f"points: {len(repeated)} images and classes have more than one point, first {first['image_id']}, "
            f"{first['finding']}; give one"
        )

"""Measures of where the boxes are: AP from stored matches, and those that ask for one place in an image.

The latter (all but AP) look only at images that have the class, so they do not see false alarms elsewhere.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.arrays import Bools, Floats
from cxr.boxes import CORNERS, as_boxes
from cxr.coco import CocoBoxes
from cxr.config import UserError
from eval.detection.average_precision import ClassMatches, ap_figure
from eval.detection.coco_ap import COCO_IOUS, check_predictions
from eval.detection.overlaps import Overlap, TruthIndex, top_boxes
from eval.stats.bootstrap import Counts, over_blocks
from eval.stats.measures import Measure, share_measure


def ap_measure(matches: Sequence[ClassMatches], iou: float) -> Measure:
    """COCO's AP of each class at one IoU threshold that was matched; name "ap40" at .4."""
    figures = [ap_figure(m, iou) for m in matches]

    def resampled(counts: Counts) -> Floats:
        return over_blocks(counts, figures)

    return Measure(f"ap{round(100 * iou)}", tuple(m.finding for m in matches), resampled)


def ap5095_measure(matches: Sequence[ClassMatches]) -> Measure:
    """COCO's AP averaged over IoU .50 to .95, all of which must have been matched; name "ap5095"."""
    parts = [ap_measure(matches, iou) for iou in COCO_IOUS]

    def resampled(counts: Counts) -> Floats:
        mean: Floats = np.mean([part.resampled(counts) for part in parts], axis=0)
        return mean

    return Measure("ap5095", tuple(m.finding for m in matches), resampled)


def corloc_measure(truth: CocoBoxes, predictions: CocoBoxes, *, iou: float = 0.5) -> Measure:
    """CorLoc, correct localisation: share of the images with a class whose best-scored box of it is right.

    Right is IoU >= `iou` with any true box of the class in the image (equality counts, as in AP). An image with the
    class but without a box of it is wrong. Source: Deselaers, Alexe and Ferrari, Weakly supervised localization and
    learning with generic knowledge, IJCV 2012. Raises UserError as `eval.detection.coco_ap.evaluate` does.
    """
    boxes = TruthIndex(truth)
    hits = _top_overlaps(boxes, truth, predictions, overlap="iou") >= iou
    return _share("corloc", boxes, hits)


def accuracy_measure(
    truth: CocoBoxes, predictions: CocoBoxes, *, overlap: Overlap, threshold: float
) -> Measure:
    """T(IoU) or T(IoBB): share of the images with a class whose best-scored box overlaps a true box by *more than* T.

    IoBB divides the intersection by the predicted box's area, so a small box inside a true one is right at any T.
    Source: Wang et al., ChestX-ray8, CVPR 2017, which counts a box as right when its overlap is above the threshold and
    allows several boxes an image; here the best-scored one stands for the image, and an image with the class but
    without a box of it counts as wrong. Raises UserError as `eval.detection.coco_ap.evaluate` does.

    Name: e.g. "iou_accuracy30", "iobb_accuracy10".
    """
    boxes = TruthIndex(truth)
    hits = _top_overlaps(boxes, truth, predictions, overlap=overlap) > threshold
    return _share(f"{overlap}_accuracy{round(100 * threshold)}", boxes, hits)


def pointing_measure(truth: CocoBoxes, points: pd.DataFrame) -> Measure:
    """Pointing game: share of the images with a class whose point lies in or on a true box of it; no tolerance.

    points: columns image_id, finding, x, y (pixels of the truth's boxes), at most one of an image and class; where
    there is none, or it is NaN, the image counts as missed. Source: Zhang et al., Top-down neural attention by
    excitation backprop, IJCV 2018 (which grants 15 pixels of tolerance; medical images differ in scale).

    Raises:
        UserError: points of unknown images or classes, or several of one image and class.
    """
    _check_points(truth, points)
    boxes = TruthIndex(truth)
    cells = boxes.cells(points)
    hits = np.zeros(boxes.shape, dtype=bool)
    hits.ravel()[cells] = boxes.holds(cells, points[["x", "y"]].to_numpy(dtype=np.float64))
    return _share("pointing", boxes, hits)


def max_box_accuracy_measure(
    truth: CocoBoxes, boxes_at: Sequence[CocoBoxes], *, ious: Sequence[float] = (0.3, 0.5, 0.7)
) -> Measure:
    """MaxBoxAccV2: how good boxes would be at the best threshold of the map, one threshold for all images of a class.

    boxes_at: the boxes at each threshold, for every image and class, their scores of no account. At a threshold
    an image with the class is right when *any* box of the class has IoU >= delta with any true box of it; of the
    thresholds the best is taken for each delta, and the result is the mean over the deltas `ious`. **An oracle**: it
    looks for its threshold on the images that are scored (on each resample anew), so it is no figure of a method
    that has to choose beforehand. Source: Choe et al., Evaluating weakly supervised object localization methods
    right, CVPR 2020, and its extension of the same year (V2: any box instead of the largest, mean over three deltas).
    """
    boxes = TruthIndex(truth)
    right = np.stack([_any_right(boxes, truth, found, ious) for found in boxes_at])
    cases = boxes.num_true > 0
    tables = [right[:, :, cases[:, k], k].astype(np.float32) for k in range(boxes.shape[1])]

    def resampled(counts: Counts) -> Floats:
        weights = counts.astype(np.float32)  # counts are small: their sums are exact
        values = [_best_share(weights[:, cases[:, k]], table) for k, table in enumerate(tables)]
        return np.stack(values, axis=1) if values else np.zeros((len(counts), 0))

    return Measure("maxboxaccv2", boxes.findings, resampled)


def _any_right(boxes: TruthIndex, truth: CocoBoxes, found: CocoBoxes, ious: Sequence[float]) -> Bools:
    """(D, I, K): at each delta, does any box of the image and class overlap a true box enough?"""
    check_predictions(truth, found)
    cells = boxes.cells(found.boxes)
    overlap, _ = boxes.best(cells, as_boxes(found.boxes[CORNERS].to_numpy(dtype=np.float64)))
    highest = np.zeros(boxes.shape[0] * boxes.shape[1])
    np.maximum.at(highest, cells, overlap)
    return np.stack([highest.reshape(boxes.shape) >= iou for iou in ious])


def _best_share(weights: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> Floats:
    """(R, C) weights of the images with the class, (S, D, C) right or not -> (R,): mean over D of the best of S."""
    num_thresholds, num_deltas, num_cases = right.shape
    sums = weights @ right.reshape(num_thresholds * num_deltas, num_cases).T
    best = sums.reshape(len(weights), num_thresholds, num_deltas).max(axis=1).mean(axis=1, dtype=np.float64)
    total = weights.sum(axis=1, dtype=np.float64)
    return np.where(total > 0, best / np.maximum(total, 1), np.nan)


def _top_overlaps(boxes: TruthIndex, truth: CocoBoxes, predictions: CocoBoxes, *, overlap: Overlap) -> Floats:
    """(I, K) overlap of the best-scored box of each image and class with the true box that it overlaps most."""
    check_predictions(truth, predictions)
    cells = boxes.cells(predictions.boxes)
    top = top_boxes(cells, predictions.boxes["score"].to_numpy(dtype=np.float64))
    corners = as_boxes(predictions.boxes[CORNERS].to_numpy(dtype=np.float64))[top]
    values = np.full(boxes.shape, -1.0)  # without a box below every threshold, 0 with it
    values.ravel()[cells[top]], _ = boxes.best(cells[top], corners, overlap=overlap)
    return values


def _share(name: str, boxes: TruthIndex, hits: Bools) -> Measure:
    cases = boxes.num_true > 0
    return share_measure(name, boxes.findings, (hits & cases).astype(np.float64), cases.astype(np.float64))


def _check_points(truth: CocoBoxes, points: pd.DataFrame) -> None:
    check_predictions(truth, truth.with_boxes(points.assign(score=0.0)))
    twice = points[points.duplicated(["image_id", "finding"])]
    if len(twice):
        first = twice.iloc[0]
        raise UserError(
            f"points: {len(twice)} more than one of an image and class, first {first['image_id']}, "
            f"{first['finding']}; give one"
        )

"""RoDeO: do the boxes that are put out name, place and shape the findings rightly? No IoU threshold, no ranking.

Source: Meissen, Müller, Kaissis and Rueckert, Robust Detection Outcome: A Metric for Pathology Detection in Medical
Images, MIDL 2023, whose equations are cited here. In an image the boxes of all classes are paired with the true boxes
(Hungarian matching); each of three scores of the pairs counts 0 for every box left over on either side (equation 5),
and their harmonic mean is the result (equation 6).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import linear_sum_assignment

from cxr.arrays import Bools, Floats, Ints
from cxr.boxes import CORNERS, Boxes, area, as_boxes, intersection_matrix
from cxr.coco import CocoBoxes
from eval.detection.average_precision import ClassMatches
from eval.detection.coco_ap import check_predictions
from eval.detection.overlaps import TruthIndex
from eval.stats.bootstrap import Counts
from eval.stats.measures import Measure

Indices = npt.NDArray[np.intp]

MIN_SCORE = 0.5


@dataclass(frozen=True)
class _Sums:
    """Sums of each image and class, (I, K).

    true: true boxes of the class. pairs: those with a partner. same: those with one of the same class. near, alike:
    scores of place and shape of the pairs. left: boxes without a partner, true ones and predicted ones of the class.
    """

    true: Floats
    pairs: Floats
    same: Floats
    near: Floats
    alike: Floats
    left: Floats


def rodeo_measure(
    truth: CocoBoxes,
    predictions: CocoBoxes,
    *,
    min_score: float | Mapping[str, float] = MIN_SCORE,
    pooled: bool = False,
) -> Measure:
    """RoDeO in [0, 1] of each class (a pair belongs to the class of its true box, a box left over to its own).

    Pairing: of maximal sum of generalised IoU + c x [same class], where c is the Matthews correlation of "image has
    the class", predicted against true, over all images and classes, at least 0. c is set once,
    on all images, so that a resample keeps its pairs. Then, over pairs and left-over boxes together:
    localisation, equation 2: mean of exp(-ln 2 x d2), d2 the squared distance of the centres in widths and heights of
    the true box; shape, equation 3: mean IoU of the two boxes laid on one corner; classification, equation 4: Matthews
    correlation of the pairs' one-hot classes, at least 0, times the share of pairs. It is (K a - 1) / (K - 1) for K
    classes and a share a of pairs of one class; with one class, which the paper leaves out, it is a = 1.

    The harmonic mean is exactly 0 where one part is (the authors' program adds 1e-6 to each part). NaN where a class
    has no true box. Regions of a column "iscrowd" are left out.

    min_score: boxes of a lower score are not put out, one for all classes or one each; the paper takes thresholded
        boxes. Choose it on other images, as by `f1_thresholds` on the tune split. A class not named: MIN_SCORE.
    pooled: one column "all classes" instead, the paper's total, as "rodeo_total".

    Raises UserError as `eval.detection.coco_ap.evaluate` does.
    """
    check_predictions(truth, predictions)
    true, found = TruthIndex(truth), predictions.boxes[_is_put_out(predictions.boxes, min_score)]
    sums = _sums(true, true.cells(found), as_boxes(found[CORNERS].to_numpy(dtype=np.float64)))

    def resampled(counts: Counts) -> Floats:
        weighed = _Sums(*(counts @ getattr(sums, field.name) for field in fields(sums)))
        if pooled:
            weighed = _Sums(*(getattr(weighed, f.name).sum(axis=1, keepdims=True) for f in fields(sums)))
        return np.where(weighed.true > 0, _outcome(weighed, num_classes=true.shape[1]), np.nan)

    names = ("all classes",) if pooled else true.findings
    return Measure("rodeo_total" if pooled else "rodeo", names, resampled)


def f1_thresholds(matches: Sequence[ClassMatches], *, iou: float = 0.4) -> dict[str, float]:
    """The score of each class from which on its detections have the best F1 at this IoU; the highest of equals.

    Infinite for a class of which no detection is right: nothing of it is worth putting out.
    """
    return {m.finding: _f1_threshold(m, iou) for m in matches}


def _f1_threshold(matches: ClassMatches, iou: float) -> float:
    scores, _, is_hit = matches.ranked(iou)
    if not is_hit.any():
        return math.inf
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of each distinct score
    f1 = 2 * np.cumsum(is_hit)[last] / (last + 1 + matches.num_true.sum())
    return float(scores[last[f1.argmax()]])


def _is_put_out(boxes: pd.DataFrame, min_score: float | Mapping[str, float]) -> Bools:
    """(N,) whether the score of each box reaches the minimum of its class."""
    if isinstance(min_score, Mapping):
        least = np.array([min_score.get(name, MIN_SCORE) for name in boxes["finding"]], dtype=np.float64)
    else:
        least = np.full(len(boxes), min_score, dtype=np.float64)
    put_out: Bools = boxes["score"].to_numpy(dtype=np.float64) >= least
    return put_out


def _outcome(sums: _Sums, *, num_classes: int) -> Floats:
    """Equations 4 to 6 on summed pairs: harmonic mean of the three scores, 0 where one of them is."""
    correct = sums.same / np.maximum(sums.pairs, 1)
    correlation = np.maximum(num_classes * correct - 1, 0) / (num_classes - 1) if num_classes > 1 else correct
    total = np.maximum(sums.pairs + sums.left, 1)
    parts = np.stack([sums.near / total, sums.alike / total, correlation * sums.pairs / total])
    inverse = np.divide(1.0, parts, out=np.full_like(parts, np.inf), where=parts > 0)
    outcome: Floats = len(parts) / inverse.sum(axis=0)
    return outcome


def _sums(truth: TruthIndex, cells: Ints, boxes: Boxes) -> _Sums:
    """Pair the boxes put out, cells (N,) and corners (N, 4), with the true ones and add up by image and class."""
    order = np.argsort(cells, kind="stable")
    cells, boxes = cells[order], boxes[order]
    found, true = _pairs(truth, cells, boxes, class_weight=_presence_correlation(truth, cells))
    same = cells[found] == truth.cell[true]
    near, alike = _place_and_shape(boxes[found], truth.boxes[true])
    lone_true = np.delete(truth.cell, true)
    lone_found = np.delete(cells, found)

    def add(at: Ints, values: npt.NDArray[np.generic] | None = None) -> Floats:
        num_cells = truth.shape[0] * truth.shape[1]
        return np.bincount(at, weights=values, minlength=num_cells).astype(np.float64).reshape(truth.shape)

    paired = truth.cell[true]
    return _Sums(
        true=add(truth.cell),
        pairs=add(paired),
        same=add(paired, same),
        near=add(paired, near),
        alike=add(paired, alike),
        left=add(lone_true) + add(lone_found),
    )


def _pairs(truth: TruthIndex, cells: Ints, boxes: Boxes, *, class_weight: float) -> tuple[Indices, Indices]:
    """Positions among the boxes put out (sorted by cell), and among the true ones, of each pair of all images."""
    image, true_image = cells // truth.shape[1], truth.cell // truth.shape[1]
    none = np.zeros(0, dtype=np.intp)
    found, true = [none], [none]
    for index in np.intersect1d(image, true_image):
        own = np.arange(*np.searchsorted(image, [index, index + 1]))
        wanted = np.arange(*np.searchsorted(true_image, [index, index + 1]))
        same = cells[own][:, None] == truth.cell[wanted][None]
        gain = _generalised_iou(boxes[own], truth.boxes[wanted]) + class_weight * same
        rows, columns = linear_sum_assignment(gain, maximize=True)
        found.append(own[rows])
        true.append(wanted[columns])
    return np.concatenate(found), np.concatenate(true)


def _presence_correlation(truth: TruthIndex, cells: Ints) -> float:
    """Matthews correlation of "a box of the class is put out in the image" with "it has one", at least 0."""
    num_cells = truth.shape[0] * truth.shape[1]
    is_true, is_found = np.zeros((2, num_cells), dtype=np.float64)
    is_true[truth.cell], is_found[cells] = 1, 1
    covariance = num_cells * (is_true @ is_found) - is_true.sum() * is_found.sum()
    spread = [float(v.sum() * (num_cells - v.sum())) for v in (is_true, is_found)]
    return max(0.0, float(covariance) / math.sqrt(math.prod(spread))) if min(spread) > 0 else 0.0


def _place_and_shape(boxes: Boxes, true: Boxes) -> tuple[Floats, Floats]:
    """Equations 2 and 3 of each pair: (P,) and (P,) in [0, 1]; a true box without extent has no scale and gives 0."""
    size, true_size = boxes[:, 2:] - boxes[:, :2], true[:, 2:] - true[:, :2]
    shift = (boxes[:, 2:] + boxes[:, :2] - true[:, 2:] - true[:, :2]) / 2
    has_extent = (true_size > 0).all(axis=1)
    scaled = np.divide(shift, true_size, out=np.zeros_like(shift), where=true_size > 0)
    near = np.where(has_extent, np.exp2(-(scaled**2).sum(axis=1)), 0.0)
    shared = np.minimum(size, true_size).prod(axis=1)
    union = size.prod(axis=1) + true_size.prod(axis=1) - shared
    return near, np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _generalised_iou(a: Boxes, b: Boxes) -> Floats:
    """(Na, Nb) in [-1, 1]: IoU minus the share of the enclosing box outside the union (Rezatofighi et al. 2019)."""
    shared = intersection_matrix(a, b)
    union = area(a)[:, None] + area(b)[None] - shared
    sides = np.maximum(a[:, None, 2:], b[None, :, 2:]) - np.minimum(a[:, None, :2], b[None, :, :2])
    hull = sides.prod(axis=2)
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    generalised: Floats = iou - np.divide(hull - union, hull, out=np.zeros_like(hull), where=hull > 0)
    return generalised

"""RoDeO: class, place and shape of boxes, without an IoU threshold and without a ranking.

In each image the boxes of all classes are paired with the true boxes (Hungarian matching). Three scores of the pairs
count 0 for each unpaired box on either side (equation 5); the result is their harmonic mean (equation 6).

Source: Meissen, Müller, Kaissis and Rueckert, Robust Detection Outcome: A Metric for Pathology Detection in Medical
Images, MIDL 2023, whose equation numbers are used here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from cxr.arrays import Bools, Floats, Ints
from cxr.boxes import Boxes, giou_matrix, iou_pairs
from eval.detection.indexed import IndexedDetections, TruthIndex
from eval.detection.matching import MAIN_IOU, ClassMatches
from eval.stats.bootstrap import Counts
from eval.stats.measures import Measure

Indices = npt.NDArray[np.intp]

MIN_SCORE = 0.5


@dataclass(frozen=True)
class _Sums:
    """Sums per image and class, (I, K).

    true: true boxes. pairs: true boxes with a partner. same: true boxes with a partner of the same class. near, alike:
    sums of the localisation and shape scores of the pairs. left: unpaired boxes, true and predicted.
    """

    true: Floats
    pairs: Floats
    same: Floats
    near: Floats
    alike: Floats
    left: Floats


def rodeo_measure(
    boxes: IndexedDetections, *, min_score: float | Mapping[str, float] = MIN_SCORE, pooled: bool = False
) -> Measure:
    """RoDeO in [0, 1] of each class. A pair belongs to the class of its true box, an unpaired box to its own class.

    The pairing maximises the sum of generalised IoU + c x [same class], where c is the Matthews correlation, at least
    0, of predicted and true "image has the class" (computed once, so that resamples keep the pairs). Three scores:

    - localisation (equation 2): mean of exp(-ln 2 x d2), with d2 the squared distance of the centres in widths and
      heights of the true box;
    - shape (equation 3): mean IoU of the two boxes moved to one corner;
    - classification (equation 4): Matthews correlation of the pairs' classes, at least 0, times the share of paired
      boxes: (K a - 1) / (K - 1) for K classes and a share a of pairs with equal classes; 1 for a single class.

    The harmonic mean is exactly 0 where one of the three is (the authors' program adds 1e-6 to each). NaN where a class
    has no true box. Detections of a class in an image that was not read for it do not count; other ignore regions are
    not used.

    min_score: boxes with a lower score do not count; one for all classes or by class (default `MIN_SCORE`). Choose it
    on other images, for example by `f1_thresholds` on the tune split. pooled: one column "all classes", the paper's
    total, named "rodeo_total".
    """
    true = boxes.true
    kept = _reaches(boxes, min_score) & true.is_read.ravel()[boxes.cell]
    sums = _sums(true, boxes.cell[kept], boxes.boxes[kept])

    def resampled(counts: Counts) -> Floats:
        weighed = _Sums(*(counts @ getattr(sums, field.name) for field in fields(sums)))
        if pooled:
            weighed = _Sums(*(getattr(weighed, f.name).sum(axis=1, keepdims=True) for f in fields(sums)))
        return np.where(weighed.true > 0, _outcome(weighed, num_classes=true.shape[1]), np.nan)

    names = ("all classes",) if pooled else true.findings
    return Measure("rodeo_total" if pooled else "rodeo", names, resampled)


def f1_thresholds(
    matches: Sequence[ClassMatches], *, iou: float = MAIN_IOU, least: Mapping[str, float] | None = None
) -> dict[str, float]:
    """The minimum score of each class with the best F1 at this IoU, on ties the highest; infinite if none matches.

    least: the lowest score of each class that may be chosen; without it, any.
    """
    return {m.finding: _f1_threshold(m, iou, (least or {}).get(m.finding, 0.0)) for m in matches}


def _f1_threshold(matches: ClassMatches, iou: float, least: float) -> float:
    scores, _, is_hit = matches.ranked(iou)
    allowed = scores >= least  # the first ones, because scores fall
    scores, is_hit = scores[allowed], is_hit[allowed]
    if not is_hit.any():
        return math.inf
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # last index of each distinct score
    f1 = 2 * np.cumsum(is_hit)[last] / (last + 1 + matches.num_true.sum())
    return float(scores[last[f1.argmax()]])


def _reaches(boxes: IndexedDetections, min_score: float | Mapping[str, float]) -> Bools:
    """(N,) whether the score of each detection reaches the minimum of its class."""
    if not isinstance(min_score, Mapping):
        return boxes.scores >= min_score
    minima = np.array([min_score.get(name, MIN_SCORE) for name in (*boxes.true.findings, "")])
    return np.asarray(boxes.scores >= minima[boxes.cell % max(1, len(boxes.true.findings))])


def _outcome(sums: _Sums, *, num_classes: int) -> Floats:
    """Equations 4 to 6 on the sums: harmonic mean of the three scores, 0 where one of them is 0."""
    correct = sums.same / np.maximum(sums.pairs, 1)
    correlation = np.maximum(num_classes * correct - 1, 0) / (num_classes - 1) if num_classes > 1 else correct
    total = np.maximum(sums.pairs + sums.left, 1)
    parts = np.stack([sums.near / total, sums.alike / total, correlation * sums.pairs / total])
    inverse = np.divide(1.0, parts, out=np.full_like(parts, np.inf), where=parts > 0)
    outcome: Floats = len(parts) / inverse.sum(axis=0)
    return outcome


def _sums(truth: TruthIndex, cells: Ints, boxes: Boxes) -> _Sums:
    """Pair detections, cells (N,) and corners (N, 4), with the true boxes and add up by image and class."""
    order = np.argsort(cells, kind="stable")
    cells, boxes = cells[order], boxes[order]
    found, true = _pairs(truth, cells, boxes, class_weight=_presence_correlation(truth, cells))
    same = cells[found] == truth.real.cell[true]
    near, alike = _place_and_shape(boxes[found], truth.real.boxes[true])
    lone_true = np.delete(truth.real.cell, true)
    lone_found = np.delete(cells, found)

    def add(at: Ints, values: npt.NDArray[np.generic] | None = None) -> Floats:
        num_cells = truth.shape[0] * truth.shape[1]
        return np.bincount(at, weights=values, minlength=num_cells).astype(np.float64).reshape(truth.shape)

    paired = truth.real.cell[true]
    return _Sums(
        true=add(truth.real.cell),
        pairs=add(paired),
        same=add(paired, same),
        near=add(paired, near),
        alike=add(paired, alike),
        left=add(lone_true) + add(lone_found),
    )


def _pairs(truth: TruthIndex, cells: Ints, boxes: Boxes, *, class_weight: float) -> tuple[Indices, Indices]:
    """The pairs of all images: indices of the detections (sorted by cell) and of the true boxes."""
    image, true_image = cells // truth.shape[1], truth.real.cell // truth.shape[1]
    none = np.zeros(0, dtype=np.intp)
    found, true = [none], [none]
    for index in np.intersect1d(image, true_image):
        own = np.arange(*np.searchsorted(image, [index, index + 1]))
        wanted = np.arange(*np.searchsorted(true_image, [index, index + 1]))
        same = cells[own][:, None] == truth.real.cell[wanted][None]
        gain = giou_matrix(boxes[own], truth.real.boxes[wanted]) + class_weight * same
        rows, columns = linear_sum_assignment(gain, maximize=True)
        found.append(own[rows])
        true.append(wanted[columns])
    return np.concatenate(found), np.concatenate(true)


def _presence_correlation(truth: TruthIndex, cells: Ints) -> float:
    """Matthews correlation, at least 0, of "the image has a detection of the class" and "it has a true box"."""
    is_true, is_found = np.zeros((2, truth.shape[0] * truth.shape[1]), dtype=np.float64)
    is_true[truth.real.cell], is_found[cells] = 1, 1
    num_cells = int(truth.is_read.sum())  # neither array has a 1 in the other cells
    covariance = num_cells * (is_true @ is_found) - is_true.sum() * is_found.sum()
    spread = [float(v.sum() * (num_cells - v.sum())) for v in (is_true, is_found)]
    return max(0.0, float(covariance) / math.sqrt(math.prod(spread))) if min(spread) > 0 else 0.0


def _place_and_shape(boxes: Boxes, true: Boxes) -> tuple[Floats, Floats]:
    """Equations 2 and 3 of each pair: (P,) and (P,) in [0, 1]; 0 for a true box without width or height."""
    size, true_size = boxes[:, 2:] - boxes[:, :2], true[:, 2:] - true[:, :2]
    shift = (boxes[:, 2:] + boxes[:, :2] - true[:, 2:] - true[:, :2]) / 2
    has_extent = (true_size > 0).all(axis=1)
    scaled = np.divide(shift, true_size, out=np.zeros_like(shift), where=true_size > 0)
    near = np.where(has_extent, np.exp2(-(scaled**2).sum(axis=1)), 0.0)
    at_origin = (np.concatenate([np.zeros_like(own), own], axis=1) for own in (size, true_size))
    return near, iou_pairs(*at_origin)

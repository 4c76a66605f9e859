"""Classification metrics under integer weights of the images, for all resamples at once.

A bootstrap resample is a weighting of the images that leaves their order unchanged, so one sort serves all resamples.
Each figure equals scikit-learn's with `sample_weight`. AUROC and average precision are NaN without both classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from cxr.arrays import Floats, Ints
from eval.stats.bootstrap import MAX_CELLS, Counts

DECISION_METRICS = ("f1", "precision", "sensitivity", "specificity", "accuracy")


@dataclass(frozen=True)
class RankedTotals:
    """Cumulative weights of a ranking at each of the G distinct scores of positives, highest first.

    true, called: (G, R) weight of the positives, and of all images, with this score or a higher one. above: (G, R)
    weight of all images with a higher score. num_true, num: (R,) weight of all positives, of all images. Figures are
    (R,) in [0, 1]; NaN where a resample lacks positives or negatives.
    """

    true: Floats
    called: Floats
    above: Floats
    num_true: Floats
    num: Floats

    def auroc(self) -> Floats:
        """Area under the ROC curve: share of (positive, negative) pairs in the right order; ties count half."""
        newly = np.diff(self.true, axis=0, prepend=0)
        # Negatives above a positive lose the whole pair, those with an equal score half of it.
        wrong = (newly * (self.above + self.called - 2 * self.true + newly)).sum(axis=0) / 2
        num_pairs = self.num_true * (self.num - self.num_true)
        return self._known(1 - wrong / np.maximum(num_pairs, 1))

    def auprc(self) -> Floats:
        """Average precision: precision at each distinct score, weighted by the recall gained there."""
        newly = np.diff(self.true, axis=0, prepend=0)
        gained = (newly * (self.true / np.maximum(self.called, 1))).sum(axis=0)
        return self._known(gained / np.maximum(self.num_true, 1))

    def specificity_at(self, sensitivity: float) -> Floats:
        """Specificity at the highest threshold with at least this sensitivity, which is in (0, 1]."""
        reached = self.true / np.maximum(self.num_true, 1) >= sensitivity
        false = np.where(reached, self.called - self.true, np.inf).min(axis=0, initial=np.inf)
        return self._known(1 - false / np.maximum(self.num - self.num_true, 1))

    def _known(self, figures: Floats) -> Floats:
        return np.where((self.num_true > 0) & (self.num_true < self.num), figures, np.nan)


class Ranking:
    """The images of one class in the order of their scores.

    labels: (N,) 1, 0 or NaN (ignored). scores: (N,), finite.
    """

    def __init__(self, labels: Floats, scores: Floats) -> None:
        known = np.flatnonzero(~np.isnan(labels))
        values, group = np.unique(-scores[known], return_inverse=True)
        positive = labels[known] == 1
        has_positive = np.bincount(group[positive], minlength=len(values)) > 0
        # Part 2j + 1 is the j-th score that a positive has, part 2j what lies above it and below the one before.
        before: Ints = np.cumsum(has_positive) - has_positive
        part = (2 * before + has_positive)[group]
        num_parts = 2 * int(has_positive.sum()) + 1
        self._all = _adder(part, known, shape=(num_parts, len(labels)))
        self._true = _adder(part[positive], known[positive], shape=(num_parts, len(labels)))

    def totals(self, weights: Counts) -> RankedTotals:
        """weights: (R, N) how often each image counts; fastest in Fortran order."""
        columns = np.ascontiguousarray(weights.T)
        every = np.cumsum(self._all @ columns, axis=0, dtype=np.float64)
        true = np.cumsum(self._true @ columns, axis=0, dtype=np.float64)
        above, called = every[:-1:2], every[1::2]
        return RankedTotals(true[1::2], called, above, num_true=true[-1], num=every[-1])


def _adder(part: Ints, image: Ints, *, shape: tuple[int, int]) -> Any:
    """A sparse matrix that adds up the rows of each part."""
    return csr_array((np.ones(len(part), dtype=np.int32), (part, image)), shape=shape)


def weighted_auroc(labels: Floats, probabilities: Floats, counts: Counts) -> Floats:
    """AUROC of each class under each weighting of the images.

    labels: (N, K) 1, 0 or NaN (ignored). probabilities: (N, K). counts: (R, N). Returns (R, K).
    """
    rankings = [Ranking(labels[:, k], probabilities[:, k]) for k in range(labels.shape[1])]

    def score(part: Counts) -> Floats:
        columns = [ranking.totals(part).auroc() for ranking in rankings]
        return np.stack(columns, axis=1) if columns else np.zeros((len(part), 0))

    return in_parts(score, counts)


def weighted_sums(addends: Floats, counts: Counts) -> Floats:
    """Sums over images: (..., N, K) addends and (R, N) weights -> (..., R, K)."""
    parts = in_parts(lambda part: np.moveaxis(part.astype(np.float64) @ addends, -2, 0), counts)
    return np.moveaxis(parts, 0, -2)


def in_parts(score: Callable[[Counts], Floats], counts: Counts) -> Floats:
    """Compute `score`, (r, N) weights -> (r, ...) figures, in blocks that fit into memory; returns (R, ...)."""
    rows = max(1, MAX_CELLS // max(1, counts.shape[1]))
    starts = range(0, max(1, len(counts)), rows)
    return np.concatenate([score(np.asfortranarray(counts[start : start + rows])) for start in starts])


def decision_metrics(cells: Floats) -> Floats:
    """F1, precision, sensitivity, specificity, accuracy; 0 / 0 is 0.

    cells: (4, ...) true positives, false positives, false negatives, true negatives, weighted or not.
    Returns (5, ...) in [0, 1].
    """
    tp, fp, fn, tn = cells
    pairs = ((2 * tp, 2 * tp + fp + fn), (tp, tp + fp), (tp, tp + fn), (tn, tn + fp), (tp + tn, tp + fp + fn + tn))
    return np.stack([part / np.maximum(whole, 1) for part, whole in pairs])

"""Classification metrics under integer weights of the images, for all resamples at once.

A resample of a bootstrap is a weighting (how often each image was drawn); ranks do not change with it,
so one sort serves every resample. Each function equals scikit-learn's with `sample_weight`.
"""

import numpy as np

from eval.average_precision import Bools, Floats
from eval.bootstrap import Counts

DECISION_METRICS = ("f1", "precision", "sensitivity", "specificity", "accuracy")


def weighted_auroc(positive: Bools, scores: Floats, weights: Counts) -> Floats:
    """Area under the ROC curve: share of (positive, negative) pairs in right order, ties half.

    positive, scores: (N,). weights: (R, N). Returns (R,) in [0, 1], NaN without both sorts.
    """
    order, last = _ranking(scores)
    true = _up_to(weights * positive, order, last)
    false = _up_to(weights * ~positive, order, last)
    num_pairs = true[:, -1] * false[:, -1]
    # Trapezoids: a group of equal scores holds `newly` negatives, seen before and after its positives.
    newly = np.diff(false, axis=1, prepend=0)
    before = np.concatenate([np.zeros((len(true), 1)), true[:, :-1]], axis=1)
    area = (newly * (before + true) / 2).sum(axis=1)
    return np.where(num_pairs > 0, area / np.maximum(num_pairs, 1), np.nan)


def weighted_auprc(positive: Bools, scores: Floats, weights: Counts) -> Floats:
    """Average precision: precision at each distinct score, weighted by the recall gained there.

    positive, scores: (N,). weights: (R, N). Returns (R,) in [0, 1], NaN without both sorts.
    """
    order, last = _ranking(scores)
    true = _up_to(weights * positive, order, last)
    called = _up_to(weights, order, last)
    num_true = true[:, -1]
    precision = true / np.maximum(called, 1)
    area = (precision * np.diff(true, axis=1, prepend=0)).sum(axis=1) / np.maximum(num_true, 1)
    return np.where((num_true > 0) & (num_true < called[:, -1]), area, np.nan)


def decision_metrics(cells: Floats) -> Floats:
    """F1, precision, sensitivity, specificity, accuracy; 0 / 0 is 0.

    cells: (4, ...) true positives, false positives, false negatives, true negatives, weighted or not.
    Returns (5, ...) in [0, 1].
    """
    tp, fp, fn, tn = cells
    pairs = (
        (2 * tp, 2 * tp + fp + fn),
        (tp, tp + fp),
        (tp, tp + fn),
        (tn, tn + fp),
        (tp + tn, tp + fp + fn + tn),
    )
    return np.stack([part / np.maximum(whole, 1) for part, whole in pairs])


def _ranking(scores: Floats) -> tuple[np.ndarray, np.ndarray]:
    """Order by falling score, and the position of the last of each group of equal scores."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    return order, last


def _up_to(weights: np.ndarray, order: np.ndarray, last: np.ndarray) -> Floats:
    """(R, N) weights -> (R, groups) total weight down to the end of each group of equal scores."""
    totals: Floats = np.cumsum(weights[:, order], axis=1)[:, last].astype(np.float64)
    return totals

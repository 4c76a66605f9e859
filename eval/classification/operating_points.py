"""Operating points of a classifier: thresholds, and the specificity at a given sensitivity.

Thresholds are chosen on the validation split. Candidates are the midpoints between neighbouring distinct probabilities,
and the lowest probability (all images positive). A fixed threshold is not chosen.
"""

from collections.abc import Callable
from typing import Literal, Unpack

import numpy as np

from cxr.arrays import Bools, Floats, Ints
from eval.classification.weighted import Ranking, in_parts
from eval.stats.bootstrap import BootstrapOptions, Counts, Interval, percentile_interval, resample_images
from eval.stats.calibration import check_scores, known_rows

ThresholdKind = Literal["f1", "youden", "sensitivity", "fixed"]


def choose_thresholds(
    labels: Floats,
    probabilities: Floats,
    *,
    kind: ThresholdKind = "f1",
    sensitivity: float = 0.95,
    fixed_at: float = 0.5,
) -> Floats:
    """The threshold of each class; images with at least this probability are positive.

    labels: (N, K) 1, 0 or NaN (ignored). probabilities: (N, K) finite.
    kind: "f1": the highest F1. "youden": the highest sensitivity + specificity - 1 (Youden 1950). On ties both use the
    lowest threshold. "sensitivity": the highest threshold with at least `sensitivity`, in (0, 1]. "fixed": `fixed_at`,
    whatever the labels are.

    Returns (K,); NaN for a class without positives, for youden also without negatives.
    """
    check_scores(labels, probabilities)
    assert 0 < sensitivity <= 1, f"sensitivity {sensitivity} is not in (0, 1]"

    if kind == "fixed":
        return np.full(labels.shape[1], fixed_at)

    def best(hits: Ints, called: Ints) -> int | None:
        return _CHOICES[kind](hits, called, sensitivity)

    columns = range(labels.shape[1])
    return np.array([_threshold(*known_rows(labels[:, k], probabilities[:, k]), best) for k in columns])


def specificity_at_sensitivity(labels: Floats, scores: Floats, sensitivity: float) -> float:
    """The best specificity that the ROC curve reaches with at least this sensitivity, in [0, 1].

    labels: (N,) 1, 0 or NaN (ignored). scores: (N,) finite. sensitivity: in (0, 1]. The curve is not interpolated
    between thresholds. NaN without positives or negatives.
    """
    once = np.ones((1, len(labels)), dtype=np.int32)
    return float(_specificity(labels, scores, sensitivity, once)[0])


def specificity_interval(
    labels: Floats, scores: Floats, sensitivity: float, **options: Unpack[BootstrapOptions]
) -> Interval:
    """95 % interval of `specificity_at_sensitivity`, whose threshold is chosen anew in each resample."""
    return percentile_interval(_specificity(labels, scores, sensitivity, resample_images(len(labels), options)))


def _specificity(labels: Floats, scores: Floats, sensitivity: float, counts: Counts) -> Floats:
    check_scores(labels, scores)
    assert 0 < sensitivity <= 1, f"sensitivity {sensitivity} is not in (0, 1]"
    ranking = Ranking(labels, scores)
    return in_parts(lambda part: ranking.totals(part).specificity_at(sensitivity), counts)


def _threshold(positive: Bools, scores: Floats, best_of: Callable[[Ints, Ints], int | None]) -> float:
    values, group = np.unique(scores, return_inverse=True)
    if not positive.any():
        return float("nan")
    # Counts from each distinct score upwards, lowest score first.
    hits = np.bincount(group[positive], minlength=len(values))[::-1].cumsum()[::-1]
    called = np.bincount(group)[::-1].cumsum()[::-1]
    best = best_of(hits, called)
    if best is None:
        return float("nan")
    if best == 0:
        return float(values[0])
    middle = (values[best - 1] + values[best]) / 2
    # Neighbouring floats have no midpoint; the upper one separates them as well.
    return float(middle if middle > values[best - 1] else values[best])


def _best_youden(hits: Ints, called: Ints, _: float) -> int | None:
    num_positive, num_negative = int(hits[0]), int(called[0] - hits[0])
    if num_negative == 0:
        return None
    # Integers, so that ties compare equal.
    return int(np.argmax(hits * num_negative - (called - hits) * num_positive))


_CHOICES: dict[str, Callable[[Ints, Ints, float], int | None]] = {
    "f1": lambda hits, called, _: int(np.argmax(2 * hits / (called + hits[0]))),
    "youden": _best_youden,
    "sensitivity": lambda hits, _, sensitivity: int(np.flatnonzero(hits / hits[0] >= sensitivity)[-1]),
}
"""Positives called and images called at every candidate, lowest first, and the sensitivity -> index of the best one."""

"""Metrics of a multilabel classifier, each with a 95 % interval by bootstrap over patients.

Point estimates come from scikit-learn. Resamples come from `eval.weighted`, which re-weights the images
instead of scoring a thousand copies of them; tests hold the two together.
"""

from collections.abc import Sequence
from typing import TypedDict, Unpack

import numpy as np
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from cxr.config import UserError
from cxr.labels import slug
from eval.average_precision import MAX_CELLS, Bools, Floats, mean_over_classes
from eval.bootstrap import Counts, percentile_interval, resample_counts
from eval.weighted import DECISION_METRICS, decision_metrics, weighted_auprc, weighted_auroc

METRICS = ("auroc", "auprc", *DECISION_METRICS)

Figures = dict[str, float | None]


class MetricOptions(TypedDict, total=False):
    """What `classification_metrics` takes beside the scores.

    groups: (N,) patient of each image; None (the default) draws single images.
    num_resamples: default 1000. seed: of the draws, default 0.
    min_positives: a class with fewer is reported but left out of the means, default 1.
    """

    groups: Sequence[str] | None
    num_resamples: int
    seed: int
    min_positives: int


def choose_thresholds(labels: Floats, probabilities: Floats) -> Floats:
    """The threshold of each class with the highest F1; an image is positive from it upwards (>=).

    labels: (N, K) 1, 0 or NaN (ignored). probabilities: (N, K) finite.
    Candidates are the midpoints between neighbouring distinct probabilities, and the lowest
    probability itself (everything positive). Of equally good ones the lowest is taken: rather one
    image too many than one too few. Returns (K,), NaN for a class without positives.
    """
    _check(labels, probabilities)
    best = [_best_f1(labels[:, k], probabilities[:, k]) for k in range(labels.shape[1])]
    return np.array(best, dtype=np.float64)


def _best_f1(labels: Floats, probabilities: Floats) -> float:
    known = ~np.isnan(labels)
    positive, scores = labels[known] == 1, probabilities[known].astype(np.float64)
    if not positive.any():
        return float("nan")
    values, group = np.unique(scores, return_inverse=True)
    # Counts from each distinct score upwards, lowest score first.
    hits = np.bincount(group, weights=positive)[::-1].cumsum()[::-1]
    called = np.bincount(group)[::-1].cumsum()[::-1]
    best = int(np.argmax(2 * hits / (called + positive.sum())))
    if best == 0:
        return float(values[0])
    middle = (values[best - 1] + values[best]) / 2
    # Between neighbouring floats there is no middle; the upper one separates them as well.
    return float(middle if middle > values[best - 1] else values[best])


def classification_metrics(
    labels: Floats,
    probabilities: Floats,
    *,
    findings: Sequence[str],
    thresholds: Floats,
    **options: Unpack[MetricOptions],
) -> Figures:
    """All figures of a classifier by name, flat.

    labels: (N, K) 1, 0 or NaN (ignored). probabilities: (N, K), finite. findings: (K,) names.
    thresholds: (K,), chosen on another split. options: see `MetricOptions`.

    For each of auroc, auprc, f1, precision, sensitivity, specificity and accuracy: `<metric>/<slug>` and
    `<metric>/mean`, each with `/low` and `/high`; beside them `positives/<slug>` and `positives/mean`.

    None stands for "no such figure": everything of a class whose labels are all alike, and what needs a
    threshold where that is NaN. Such a class is left out of the mean, as is one with fewer than
    `min_positives`. Precision of a class that is never called is 0, as in scikit-learn.

    Raises UserError when a probability is not finite.
    """
    _check(labels, probabilities)
    assert labels.shape[1] == len(findings) == len(thresholds), "one column a finding"
    groups = options.get("groups")
    counts = resample_counts(
        [str(i) for i in range(len(labels))] if groups is None else groups,
        num_resamples=options.get("num_resamples", 1000),
        seed=options.get("seed", 0),
    )
    points = _point_estimates(labels, probabilities, thresholds)
    draws = _draws(labels, probabilities, thresholds=thresholds, counts=counts)
    positives = (labels == 1).sum(axis=0)
    in_mean = positives >= max(1, options.get("min_positives", 1))
    slugs = [slug(finding) for finding in findings]
    return _by_name(points, draws, slugs=slugs, in_mean=in_mean) | _positives(positives, slugs)


def _check(labels: Floats, probabilities: Floats) -> None:
    assert labels.shape == probabilities.shape, f"{labels.shape} labels, {probabilities.shape} scores"
    assert np.isin(labels[~np.isnan(labels)], (0, 1)).all(), "labels are 0, 1 or NaN"
    if not np.isfinite(probabilities).all():
        num = int((~np.isfinite(probabilities)).any(axis=1).sum())
        raise UserError(
            f"classifier: {num} images have a probability that is not a number; training diverged, "
            "lower the learning rate or train in full precision"
        )


def _point_estimates(labels: Floats, probabilities: Floats, thresholds: Floats) -> Floats:
    """(M, K) by scikit-learn; NaN where a class has no such figure."""
    table = np.full((len(METRICS), labels.shape[1]), np.nan)
    for k in range(labels.shape[1]):
        known = ~np.isnan(labels[:, k])
        truth, scores = labels[known, k].astype(int), probabilities[known, k]
        if len(np.unique(truth)) < 2:
            continue
        table[0, k] = roc_auc_score(truth, scores)
        table[1, k] = average_precision_score(truth, scores)
        if not np.isnan(thresholds[k]):
            matrix = confusion_matrix(truth, scores >= thresholds[k], labels=[0, 1])
            tn, fp, fn, tp = matrix.astype(np.float64).ravel()
            table[2:, k] = decision_metrics(np.array([tp, fp, fn, tn]))
    return table


def _draws(labels: Floats, probabilities: Floats, *, thresholds: Floats, counts: Counts) -> Floats:
    """(M, R, K) the same figures in each resample; NaN where it has no such figure."""
    rows = max(1, MAX_CELLS // max(1, len(labels)))
    parts = [
        _draw_some(labels, probabilities, thresholds=thresholds, counts=counts[start : start + rows])
        for start in range(0, len(counts), rows)
    ]
    none = np.zeros((len(METRICS), 0, labels.shape[1]))
    return np.concatenate([none, *parts], axis=1)


def _draw_some(labels: Floats, probabilities: Floats, *, thresholds: Floats, counts: Counts) -> Floats:
    """`_draws` for as many resamples as fit into memory at once."""
    table = np.full((len(METRICS), len(counts), labels.shape[1]), np.nan)
    for k in range(labels.shape[1]):
        known = ~np.isnan(labels[:, k])
        positive, scores, weights = labels[known, k] == 1, probabilities[known, k], counts[:, known]
        if positive.all() or not positive.any():
            continue
        table[0, :, k] = weighted_auroc(positive, scores, weights)
        table[1, :, k] = weighted_auprc(positive, scores, weights)
        if not np.isnan(thresholds[k]):
            table[2:, :, k] = _decisions(positive, scores >= thresholds[k], weights)
    return table


def _decisions(positive: Bools, called: Bools, weights: Counts) -> Floats:
    """(5, R) decision metrics; NaN in resamples with positives or negatives only."""
    cells = (positive & called, ~positive & called, positive & ~called, ~positive & ~called)
    totals: Floats = np.stack([weights @ cell for cell in cells]).astype(np.float64)
    tp, fp, fn, tn = totals
    return np.where((tp + fn > 0) & (fp + tn > 0), decision_metrics(totals), np.nan)


def _by_name(points: Floats, draws: Floats, *, slugs: Sequence[str], in_mean: Bools) -> Figures:
    figures: Figures = {}
    for m, metric in enumerate(METRICS):
        mean = mean_over_classes(points[m][in_mean])
        figures |= _with_interval(f"{metric}/mean", mean, mean_over_classes(draws[m][:, in_mean]))
        for k, name in enumerate(slugs):
            figures |= _with_interval(f"{metric}/{name}", points[m, k], draws[m, :, k])
    return figures


def _with_interval(name: str, point: np.floating | Floats, draws: Floats) -> Figures:
    interval = percentile_interval(draws)
    values = {name: float(point), f"{name}/low": interval.low, f"{name}/high": interval.high}
    return {key: None if np.isnan(value) else value for key, value in values.items()}


def _positives(positives: np.ndarray, slugs: Sequence[str]) -> Figures:
    figures: Figures = {f"positives/{name}": float(n) for name, n in zip(slugs, positives, strict=True)}
    return figures | {"positives/mean": float(positives.mean()) if len(slugs) else None}

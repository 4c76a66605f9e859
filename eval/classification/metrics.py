"""Metrics of a multilabel classifier, each with a 95 % interval by bootstrap over patients.

Point estimates come from scikit-learn. Resamples come from `eval.classification.weighted`, which re-weights the images;
tests check that both agree.
"""

from collections.abc import Sequence
from typing import Unpack

import numpy as np
from sklearn.metrics import average_precision_score, brier_score_loss, confusion_matrix, roc_auc_score

from cxr.arrays import Bools, Floats, mean_over_classes
from cxr.labels import slug
from cxr.metrics import Metrics
from eval.classification.weighted import DECISION_METRICS, Ranking, decision_metrics, in_parts, weighted_sums
from eval.stats.bootstrap import BootstrapOptions, Counts, percentile_interval, resample_images
from eval.stats.calibration import check_scores, expected_calibration_error, known_rows
from eval.stats.measures import finite_or_none, interval_figures

METRICS = ("auroc", "auprc", "brier", *DECISION_METRICS)
"""Metrics with an interval. Higher is better, except for brier."""

CELLS = ("tp", "fp", "fn", "tn")
"""The confusion matrix, in the order that `decision_metrics` uses."""


class MetricOptions(BootstrapOptions, total=False):
    """min_positives: a class with fewer is reported but excluded from the means, default 1."""

    min_positives: int


def classification_metrics(
    labels: Floats,
    probabilities: Floats,
    *,
    findings: Sequence[str],
    thresholds: Floats,
    **options: Unpack[MetricOptions],
) -> Metrics:
    """All figures of a classifier by name, flat.

    labels: (N, K) 1, 0 or NaN (ignored). probabilities: (N, K) in [0, 1]. findings: (K,) names.
    thresholds: (K,), chosen on another split. options: see `BootstrapOptions` and `MetricOptions`.

    - For each of `METRICS` (auroc, auprc, brier, f1, precision, sensitivity, specificity, accuracy):
      `<metric>/<slug>` and `<metric>/mean`, each with `/low` and `/high`.
    - `ece/<slug>` and `ece/mean`: expected calibration error in 15 bins, without an interval because resampling biases
      it upwards.
    - `positives/<slug>` and `positives/mean`.
    - `tp/<slug>`, `fp/`, `fn/`, `tn/`: the confusion matrix at the threshold, in images.

    A figure is None for a class whose labels are all equal, and where it needs a threshold that is NaN. The means
    exclude such classes and those with fewer than `min_positives`. Precision is 0 for a class that is never called, as
    in scikit-learn. Raises UserError when a probability is not finite.
    """
    check_scores(labels, probabilities)
    assert labels.shape[1] == len(findings) == len(thresholds), "one column per finding"
    counts = resample_images(len(labels), options)
    cells = _cells(labels, probabilities, thresholds)
    points = _point_estimates(labels, probabilities, thresholds)
    samples = _samples(labels, probabilities, cells=cells, counts=counts)
    positives = (labels == 1).sum(axis=0)
    in_mean = positives >= max(1, options.get("min_positives", 1))
    slugs = [slug(finding) for finding in findings]
    ece = np.where(np.isnan(points[0]), np.nan, expected_calibration_error(labels, probabilities))
    figures = _by_name(points, samples, slugs=slugs, in_mean=in_mean)
    figures |= _named("ece", ece, slugs) | {"ece/mean": _number(mean_over_classes(ece[in_mean]))}
    figures |= _named("positives", positives, slugs)
    figures["positives/mean"] = float(positives.mean()) if slugs else None
    for name, count in zip(CELLS, cells.sum(axis=1), strict=True):
        figures |= _named(name, count, slugs)
    return figures


def probabilistic_f1(labels: Floats, probabilities: Floats) -> Floats:
    """(K,) F1 with probabilities in place of decisions: 2 sum(p y) / (sum p + sum y); NaN without positives.

    Yacouby and Axman 2020, doi:10.18653/v1/2020.eval4nlp-1.9. labels: (N, K) 1, 0 or NaN (ignored). probabilities:
    (N, K) in [0, 1]. With decisions 1 and 0 as probabilities it is F1.
    """
    known = ~np.isnan(labels)
    positives, called = ((np.where(known, values, 0)).sum(axis=0) for values in (labels, probabilities))
    hits = np.where(known, labels * probabilities, 0).sum(axis=0)
    shares = np.divide(2 * hits, called + positives, out=np.full(len(hits), np.nan), where=positives > 0)
    return np.asarray(shares, dtype=np.float64)


def _cells(labels: Floats, probabilities: Floats, thresholds: Floats) -> Floats:
    """(4, N, K) 1 where an image falls into that cell of the confusion matrix, else 0; NaN without threshold."""
    positive, negative, called = labels == 1, labels == 0, probabilities >= thresholds
    cells = np.stack([positive & called, negative & called, positive & ~called, negative & ~called])
    return np.where(np.isnan(thresholds), np.nan, cells)


def _point_estimates(labels: Floats, probabilities: Floats, thresholds: Floats) -> Floats:
    """(M, K) by scikit-learn; NaN where a class has no such figure."""
    table = np.full((len(METRICS), labels.shape[1]), np.nan)
    for k in range(labels.shape[1]):
        positive, scores = known_rows(labels[:, k], probabilities[:, k])
        if len(np.unique(positive)) < 2:
            continue
        functions = (roc_auc_score, average_precision_score, brier_score_loss)
        table[:3, k] = [function(positive, scores) for function in functions]
        if not np.isnan(thresholds[k]):
            matrix = confusion_matrix(positive, scores >= thresholds[k], labels=[False, True])
            tn, fp, fn, tp = matrix.astype(np.float64).ravel()
            table[3:, k] = decision_metrics(np.array([tp, fp, fn, tn]))
    return table


def _samples(labels: Floats, probabilities: Floats, *, cells: Floats, counts: Counts) -> Floats:
    """(M, R, K) the same figures in each resample."""
    rankings = [Ranking(labels[:, k], probabilities[:, k]) for k in range(labels.shape[1])]
    known = ~np.isnan(labels)
    errors = np.where(known, (probabilities - labels) ** 2, 0.0)
    sums = weighted_sums(np.stack([*cells, known, errors]), counts)

    def areas(part: Counts) -> Floats:
        table = np.full((len(part), 2, labels.shape[1]), np.nan)
        for k, ranking in enumerate(rankings):
            totals = ranking.totals(part)
            table[:, :, k] = np.stack([totals.auroc(), totals.auprc()], axis=1)
        return table

    ranks = in_parts(areas, counts).transpose(1, 0, 2)
    table = np.concatenate([ranks, sums[5:] / np.maximum(sums[4:5], 1), decision_metrics(sums[:4])])
    return np.where(np.isnan(ranks[0]), np.nan, table)


def _by_name(points: Floats, samples: Floats, *, slugs: Sequence[str], in_mean: Bools) -> Metrics:
    figures: Metrics = {}
    for m, metric in enumerate(METRICS):
        mean = float(mean_over_classes(points[m][in_mean]))
        figures |= _with_interval(f"{metric}/mean", mean, mean_over_classes(samples[m][:, in_mean]))
        for k, name in enumerate(slugs):
            figures |= _with_interval(f"{metric}/{name}", float(points[m, k]), samples[m, :, k])
    return figures


def _with_interval(name: str, point: float, samples: Floats) -> Metrics:
    return finite_or_none(interval_figures(name, point, percentile_interval(samples)))


def _named(metric: str, values: np.ndarray, slugs: Sequence[str]) -> Metrics:
    return {f"{metric}/{name}": _number(value) for name, value in zip(slugs, values, strict=True)}


def _number(value: float | np.number | Floats) -> float | None:
    return None if np.isnan(value) else float(value)

"""Figures of a classifier by sex, age band and view, and which subgroups differ significantly from the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.arrays import Bools, Floats, mean_over_classes
from eval.classification.metrics import MetricOptions
from eval.classification.weighted import weighted_auroc, weighted_sums
from eval.report.format import gap_text
from eval.stats.bootstrap import Counts, Estimate, percentile_interval, resample_images
from eval.stats.calibration import check_scores

AGE_LIMITS = (18, 40, 60, 80)
AGE_BANDS = ("<18", "18-39", "40-59", "60-79", "80+")
"""Years; a band includes its lower limit."""

UNKNOWN = "unknown"
MEAN = "mean"

MIN_POSITIVES = 5
"""A finding with fewer positives or negatives has no score in a subgroup."""


@dataclass(frozen=True)
class SubgroupRow:
    """One finding, or "mean", in one subgroup.

    num_cases: images with a known label (mean: all images). num_positives: positive images (mean: with any positive
    label). auroc, sensitivity, specificity: None where there is no score. difference: AUROC here minus AUROC in all
    other images, over the findings with a score in both. remark: whether it is significant, or why there is no score.
    """

    attribute: str
    value: str
    finding: str
    num_cases: int
    num_positives: int
    auroc: Estimate | None
    sensitivity: Estimate | None
    specificity: Estimate | None
    difference: Estimate | None
    remark: str


def subgroup_metrics(
    labels: Floats,
    probabilities: Floats,
    *,
    findings: Sequence[str],
    thresholds: Floats,
    attributes: pd.DataFrame,
    **options: Unpack[MetricOptions],
) -> list[SubgroupRow]:
    """Figures of every subgroup: the mean over findings first, then each finding.

    labels: (N, K) 1, 0 or NaN (ignored). probabilities: (N, K). findings: (K,). thresholds: (K,) or NaN.
    attributes: N rows; `age` in years is cut into `AGE_BANDS`, other columns (sex, view) give one subgroup per value.
    Blank or NaN is the subgroup "unknown". options: as for `classification_metrics`; min_positives (default
    `MIN_POSITIVES`) also requires as many negatives. Subgroups that are too small have rows without scores.

    Differences come from resamples of all patients, because a patient can be in several subgroups.
    """
    check_scores(labels, probabilities)
    assert len(attributes) == len(labels), f"{len(attributes)} rows of attributes, {len(labels)} of labels"
    counts = resample_images(len(labels), options)
    # The first weighting is the original sample.
    weights = np.concatenate([np.ones((1, len(labels)), dtype=np.int32), counts])
    scorer = _Scorer(labels, probabilities, thresholds, weights, options.get("min_positives", MIN_POSITIVES))
    rows: list[SubgroupRow] = []
    for attribute in attributes.columns:
        values = _values(attributes[attribute])
        for value in _in_order(values):
            rows += scorer.rows((attribute, value), values == value, [MEAN, *findings])
    return rows


def subgroup_verdict(rows: Sequence[SubgroupRow]) -> str:
    """Which subgroups' mean AUROC differs significantly from that of all other images; "" with none to compare."""
    compared = [row for row in rows if row.finding == MEAN and row.difference is not None]
    clear = [(row, row.difference) for row in compared if row.difference is not None and row.difference.is_clear]
    if not compared:
        return ""
    if not clear:
        return f"None of {len(compared)} subgroups differs significantly from the other images in mean AUROC."
    parts = [f"{r.attribute} {r.value} by {gap_text(d)}" for r, d in clear]
    return (
        f"Of {len(compared)} subgroups {len(clear)} differ significantly from the other images in mean AUROC: "
        f"{'; '.join(parts)}. About one in twenty does so by chance."
    )


@dataclass(frozen=True)
class _Scorer:
    """What all subgroups share. weights: (1 + R, N), the original sample first, then its resamples."""

    labels: Floats
    probabilities: Floats
    thresholds: Floats
    weights: Counts
    min_positives: int

    def rows(self, where: tuple[str, str], member: Bools, names: Sequence[str]) -> list[SubgroupRow]:
        """The rows of one subgroup. where: its attribute and value. names: "mean" and the findings."""
        labels, rest = (np.where(chosen[:, None], self.labels, np.nan) for chosen in (member, ~member))
        auroc = self._auroc(labels)
        figures = np.stack([auroc, *self._decisions(labels, has_score=~np.isnan(auroc[0]))])
        gap = _with_mean(auroc - self._auroc(rest))
        figures = _with_mean(figures)
        cases = [int(member.sum()), *(~np.isnan(labels)).sum(axis=0).tolist()]
        positives = [int((labels == 1).any(axis=1).sum()), *(labels == 1).sum(axis=0).tolist()]
        rows = []
        for k, name in enumerate(names):
            auroc_here, sensitivity, specificity = (_estimate(figure) for figure in figures[:, :, k])
            difference = _estimate(gap[:, k])
            remark = self._remark(name, (cases[k], positives[k]), auroc_here is not None, difference)
            figures_here = (auroc_here, sensitivity, specificity, difference)
            rows.append(SubgroupRow(*where, name, cases[k], positives[k], *figures_here, remark))
        return rows

    def _auroc(self, labels: Floats) -> Floats:
        """(1 + R, K), NaN in classes that have no score."""
        sorts = np.stack([(labels == 1).sum(axis=0), (labels == 0).sum(axis=0)])
        has_score = (sorts >= max(1, self.min_positives)).all(axis=0)
        return np.where(has_score, weighted_auroc(labels, self.probabilities, self.weights), np.nan)

    def _decisions(self, labels: Floats, *, has_score: Bools) -> Floats:
        """(2, 1 + R, K) sensitivity and specificity; NaN where a resample has no such figure."""
        called = self.probabilities >= self.thresholds
        sorts = np.stack([labels == 1, labels == 0])
        right = sorts & np.stack([called, ~called])
        sums = weighted_sums(np.concatenate([right, sorts]).astype(np.float64), self.weights)
        usable = has_score & ~np.isnan(self.thresholds) & (sums[2:] > 0)
        return np.where(usable, sums[:2] / np.maximum(sums[2:], 1), np.nan)

    def _remark(self, name: str, counts: tuple[int, int], has_score: bool, difference: Estimate | None) -> str:
        if difference is not None:
            return "differs from the rest" if difference.is_clear else "no significant difference"
        if has_score:
            return "nothing to compare with"
        if name == MEAN:
            return "no score: no finding has one"
        found = f"{counts[1]} positive, {counts[0] - counts[1]} negative"
        return f"no score: {found}, needs {self.min_positives} of each"


def _with_mean(figures: Floats) -> Floats:
    """(..., K) -> (..., 1 + K), the mean over classes first."""
    return np.concatenate([mean_over_classes(figures)[..., None], figures], axis=-1)


def _estimate(samples: Floats) -> Estimate | None:
    """samples: (1 + R,), the figure itself first."""
    interval = percentile_interval(samples[1:])
    return None if np.isnan(samples[0]) else Estimate(float(samples[0]), interval.low, interval.high)


def _values(column: "pd.Series[Any]") -> npt.NDArray[np.str_]:
    """The subgroup of each image."""
    if column.name != "age":
        return column.astype(object).where(column.notna(), "").map(lambda v: str(v) or UNKNOWN).to_numpy(str)
    ages = column.to_numpy(np.float64)
    bands = np.array(AGE_BANDS)[np.digitize(np.nan_to_num(ages), AGE_LIMITS)]
    return np.where(np.isnan(ages), UNKNOWN, bands)


def _in_order(values: npt.NDArray[np.str_]) -> list[str]:
    """Distinct values: age bands from low to high, others by the alphabet, unknown last."""
    rank = {band: i for i, band in enumerate(AGE_BANDS)} | {UNKNOWN: len(AGE_BANDS) + 1}
    return sorted(set(values.tolist()), key=lambda value: (rank.get(value, len(AGE_BANDS)), value))

"""A measure of scored boxes under any weighting of the images: one form for all, so that one bootstrap serves all.

Everything that needs matching is done once per set of predictions; a resample only re-weights images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cxr.arrays import Floats, mean_over_classes
from cxr.labels import slug
from eval.stats.bootstrap import Counts, Difference, Interval, percentile_interval


@dataclass(frozen=True)
class Measure:
    """One measure of one set of predictions.

    name: as in metrics.json, e.g. "ap40", "froc", "corloc". findings: its K columns.
    resampled: (R, I) how often each image occurs -> (R, K) values in [0, 1], NaN where a class has no positives.
    """

    name: str
    findings: tuple[str, ...]
    resampled: Callable[[Counts], Floats]

    def values(self, num_images: int) -> Floats:
        """(K,) with every image once."""
        values: Floats = self.resampled(np.ones((1, num_images), dtype=np.int32))[0]
        return values


@dataclass(frozen=True)
class Bootstrapped:
    """A measure's values and its resamples. values: (K,). samples: (R, K)."""

    name: str
    findings: tuple[str, ...]
    values: Floats
    samples: Floats

    @property
    def mean(self) -> float:
        """Over the classes that have a value; NaN when none has."""
        return float(mean_over_classes(self.values))

    @property
    def mean_interval(self) -> Interval:
        return percentile_interval(mean_over_classes(self.samples))

    def interval(self, finding: str) -> Interval:
        return percentile_interval(self.samples[:, self.findings.index(finding)])


def bootstrap(measure: Measure, counts: Counts) -> Bootstrapped:
    """Values of every image once, and of each resample in `counts` (R, I)."""
    return Bootstrapped(
        measure.name, measure.findings, measure.values(counts.shape[1]), measure.resampled(counts)
    )


def difference(first: Bootstrapped, second: Bootstrapped) -> Difference:
    """Mean of the first minus that of the second, paired: both from the same counts."""
    assert first.findings == second.findings and first.samples.shape == second.samples.shape
    gap = percentile_interval(mean_over_classes(first.samples) - mean_over_classes(second.samples))
    return Difference(first.mean - second.mean, gap.low, gap.high)


def share_measure(name: str, findings: Sequence[str], hits: Floats, cases: Floats) -> Measure:
    """Hits over cases: (I, K) sums of each image; e.g. images whose top box is right over images with the class."""

    def resampled(counts: Counts) -> Floats:
        total = counts @ cases
        return np.where(total > 0, (counts @ hits) / np.maximum(total, 1e-12), np.nan)

    return Measure(name, tuple(findings), resampled)


def bootstrap_figures(measure: str, name: str, drawn: Bootstrapped) -> dict[str, float]:
    """``<measure>/<name>`` and ``<measure>/<name>/<finding>``, each with ``/low`` and ``/high`` where it was drawn."""
    key = f"{measure}/{name}"
    if not len(drawn.samples):
        slugs = [slug(finding) for finding in drawn.findings]
        return {key: drawn.mean} | {
            f"{key}/{own}": float(v) for own, v in zip(slugs, drawn.values, strict=True)
        }
    figures = interval_figures(key, drawn.mean, drawn.mean_interval)
    for finding, value in zip(drawn.findings, drawn.values, strict=True):
        figures |= interval_figures(f"{key}/{slug(finding)}", float(value), drawn.interval(finding))
    return figures


def interval_figures(key: str, value: float, interval: Interval | Difference) -> dict[str, float]:
    """A figure and the ends of its interval."""
    return {key: value, f"{key}/low": interval.low, f"{key}/high": interval.high}

"""Measures as functions of image weights, so that one bootstrap serves all of them.

Whatever needs the boxes, such as matching, is computed once per set of predictions; a resample only re-weights images.

    result = bootstrap(measure, resample_counts(patients))
    result.mean, result.mean_interval, result.interval("Edema")
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cxr.arrays import Floats, mean_over_classes
from cxr.labels import slug
from eval.stats.bootstrap import Block, Counts, Difference, Interval, over_blocks, percentile_interval


@dataclass(frozen=True)
class Measure:
    """One measure of one set of predictions.

    name: as in metrics.json, for example "ap40". findings: its K columns. resampled: function from counts (R, I), how
    often each image occurs, to values (R, K) in [0, 1]; NaN where a class has no positives.
    """

    name: str
    findings: tuple[str, ...]
    resampled: Callable[[Counts], Floats]

    def values(self, num_images: int) -> Floats:
        """(K,) values of the original sample, in which every image occurs once."""
        values: Floats = self.resampled(np.ones((1, num_images), dtype=np.int32))[0]
        return values


@dataclass(frozen=True)
class Bootstrapped:
    """A measure with its bootstrap. values: (K,) on the original sample. samples: (R, K) on the resamples."""

    name: str
    findings: tuple[str, ...]
    values: Floats
    samples: Floats

    @property
    def mean(self) -> float:
        """Mean over the classes that have a value; NaN if none has."""
        return float(mean_over_classes(self.values))

    @property
    def mean_interval(self) -> Interval:
        return percentile_interval(mean_over_classes(self.samples))

    def interval(self, finding: str) -> Interval:
        return percentile_interval(self.samples[:, self.findings.index(finding)])

    def estimate(self, finding: str | None = None) -> Difference:
        """Value and interval of a class, or of the mean (None)."""
        value = self.mean if finding is None else float(self.values[self.findings.index(finding)])
        interval = self.mean_interval if finding is None else self.interval(finding)
        return Difference(value, interval.low, interval.high)


def bootstrap(measure: Measure, counts: Counts) -> Bootstrapped:
    """Compute a measure on the original sample and on each resample in `counts` (R, I)."""
    return Bootstrapped(measure.name, measure.findings, measure.values(counts.shape[1]), measure.resampled(counts))


def difference(first: Bootstrapped, second: Bootstrapped) -> Difference:
    """Paired difference: mean of the first minus mean of the second, both from the same counts."""
    assert first.findings == second.findings and first.samples.shape == second.samples.shape
    gap = percentile_interval(mean_over_classes(first.samples) - mean_over_classes(second.samples))
    return Difference(first.mean - second.mean, gap.low, gap.high)


def share_measure(name: str, findings: Sequence[str], hits: Floats, cases: Floats) -> Measure:
    """Hits over cases, for example correct top boxes over images with the class; NaN without a case.

    hits, cases: (I, K) numbers per image and class.
    """

    def resampled(counts: Counts) -> Floats:
        total = counts @ cases
        return np.where(total > 0, (counts @ hits) / np.maximum(total, 1e-12), np.nan)

    return Measure(name, tuple(findings), resampled)


def blocks_measure(name: str, findings: Sequence[str], figures: Sequence[Callable[[Block], Floats]]) -> Measure:
    """A measure whose values are computed by one function per class, as `over_blocks` accepts them."""
    return Measure(name, tuple(findings), lambda counts: over_blocks(counts, figures))


def bootstrap_figures(
    key: str, result: Bootstrapped, *, slugs: Mapping[str, str] | None = None, with_ends: bool | None = None
) -> dict[str, float]:
    """``<key>`` and ``<key>/<finding>``, each with ``/low`` and ``/high``.

    slugs: finding -> its name in a key; default: `cxr.labels.slug`. with_ends: default: only if there are resamples.
    """
    slugs = {finding: slug(finding) for finding in result.findings} if slugs is None else slugs
    estimates = {key: result.estimate()} | {f"{key}/{slugs[name]}": result.estimate(name) for name in result.findings}
    if with_ends or (with_ends is None and len(result.samples)):
        return {
            name: value
            for own, one in estimates.items()
            for name, value in interval_figures(own, one.value, one).items()
        }
    return {own: one.value for own, one in estimates.items()}


def finite_or_none(figures: Mapping[str, float]) -> dict[str, float | None]:
    """For `metrics.json`: None for each value that is not finite."""
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}


def with_ends(figures: Mapping[str, float | None], key: str) -> tuple[float | None, float | None, float | None]:
    """A figure and the ends of its interval; None for each that is missing."""
    return figures.get(key), figures.get(f"{key}/low"), figures.get(f"{key}/high")


def interval_figures(key: str, value: float, interval: Interval | Difference) -> dict[str, float]:
    """A figure with the ends of its interval: ``key``, ``key/low``, ``key/high``."""
    return {key: value, f"{key}/low": interval.low, f"{key}/high": interval.high}

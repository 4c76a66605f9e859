"""Measures as functions of image weights, so that one bootstrap serves all of them.

Whatever needs the boxes, such as matching, is computed once per set of predictions; a resample only re-weights images.

    result = bootstrap(measure, resample_counts(patients))
    result.mean, result.mean_interval, result.interval("Edema")
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cxr.arrays import Bools, Floats, mean_over_classes
from cxr.labels import slug
from eval.stats.bootstrap import Block, Counts, Estimate, Interval, over_blocks
from eval.stats.intervals import Resampled, difference_of


@dataclass(frozen=True)
class Measure:
    """One measure of one set of predictions.

    name: as in metrics.json, for example "ap40". findings: its K columns. resampled: function from counts (R, I), how
    often each image occurs, to values (R, K) in [0, 1]; NaN where a class has no positives.
    cases: (I, K) true boxes of each image and class, or whether the image counts, where the value is a share of them,
    as AP is; None for other measures, whose intervals are percentiles.
    """

    name: str
    findings: tuple[str, ...]
    resampled: Callable[[Counts], Floats]
    cases: Floats | None = None

    def values(self, num_images: int) -> Floats:
        """(K,) values of the original sample, in which every image occurs once."""
        values: Floats = self.resampled(np.ones((1, num_images), dtype=np.int32))[0]
        return values

    def within(self, images: Bools) -> "Measure":
        """The measure of some of the images only, (I,) true for each that counts."""
        own = np.asarray(images, dtype=np.int32)
        cases = None if self.cases is None else self.cases * own[:, None]
        return replace(self, resampled=lambda counts: self.resampled(counts * own), cases=cases)


@dataclass(frozen=True)
class Bootstrapped:
    """A measure with its bootstrap.

    values: (K,) on the original sample. samples: (R, K) on the resamples. num_cases: (K,) sums of `Measure.cases`.
    """

    name: str
    findings: tuple[str, ...]
    values: Floats
    samples: Floats
    num_cases: Floats | None = None

    @property
    def mean(self) -> float:
        """Mean over the classes that have a value; NaN if none has."""
        return float(mean_over_classes(self.values))

    @property
    def mean_interval(self) -> Interval:
        return self.of().interval

    def interval(self, finding: str) -> Interval:
        return self.of(finding).interval

    def estimate(self, finding: str | None = None) -> Estimate:
        """Value and interval of a class, or of the mean (None)."""
        return self.of(finding).estimate

    def of(self, finding: str | None = None) -> Resampled:
        """A class, or the mean (None), with its resamples."""
        if finding is None:
            num_cases = None if self.num_cases is None else cases_of_mean(self.num_cases, self.values)
            return Resampled(self.mean, mean_over_classes(self.samples), num_cases)
        k = self.findings.index(finding)
        num_cases = None if self.num_cases is None else float(self.num_cases[k])
        return Resampled(float(self.values[k]), self.samples[:, k], num_cases)


def cases_of_mean(num_cases: Floats, values: Floats) -> float:
    """Cases of the mean over the classes that have a value, (K,) each; 0 without such a class.

    The mean of K shares of n_k cases varies like one share of K^2 / sum(1 / n_k) cases.
    """
    own = num_cases[~np.isnan(values)]
    return float(len(own) ** 2 / (1 / own).sum()) if len(own) else 0.0


def bootstrap(measure: Measure, counts: Counts) -> Bootstrapped:
    """Compute a measure on the original sample and on each resample in `counts` (R, I)."""
    num_cases = None if measure.cases is None else measure.cases.sum(axis=0)
    values, samples = measure.values(counts.shape[1]), measure.resampled(counts)
    return Bootstrapped(measure.name, measure.findings, values, samples, num_cases)


def difference(first: Bootstrapped, second: Bootstrapped) -> Estimate:
    """Paired difference: mean of the first minus mean of the second, both from the same counts."""
    assert first.findings == second.findings and first.samples.shape == second.samples.shape
    return difference_of(first.of(), second.of())


def share_measure(
    name: str, findings: Sequence[str], hits: Floats, cases: Floats, *, independent: bool = False
) -> Measure:
    """Hits over cases, for example correct top boxes over images with the class; NaN without a case.

    hits, cases: (I, K) numbers per image and class. independent: each case is an image or a box that is right or wrong,
    so that the value is a share of them (see `Measure.cases`); not pairs of readers, and not sums of overlaps.
    """

    def resampled(counts: Counts) -> Floats:
        total = counts @ cases
        return np.where(total > 0, (counts @ hits) / np.maximum(total, 1e-12), np.nan)

    return Measure(name, tuple(findings), resampled, cases if independent else None)


def blocks_measure(
    name: str, findings: Sequence[str], figures: Sequence[Callable[[Block], Floats]], *, cases: Floats
) -> Measure:
    """A measure whose values are computed by one function per class, as `over_blocks` accepts them."""
    return Measure(name, tuple(findings), lambda counts: over_blocks(counts, figures), cases)


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


def interval_figures(key: str, value: float, interval: Interval | Estimate) -> dict[str, float]:
    """A figure with the ends of its interval: ``key``, ``key/low``, ``key/high``."""
    return {key: value, f"{key}/low": interval.low, f"{key}/high": interval.high}

"""Intervals of resampled figures: of single figures, of paired differences and of ratios.

Percentiles of bootstrap resamples are no interval of an average precision. An image that is sampled twice brings its
boxes twice, with equal scores: the precision curve of a resample is noisier than that of the sample, its envelope is
higher, and the resamples lie above the estimate. And if all few boxes of a class are found, no resample misses one.
So a figure that is a share of a number of cases (`Resampled.num_cases`) has another interval:

1. The estimate and its resamples x are moved to the scale arcsin(sqrt((n x + 3/8) / (n + 3/4))), on which the variance
   of a share of n cases is about 1 / (4 n + 2), whatever the share is (Anscombe, Biometrika 35, 1948).
2. The mean excess of the resamples over the estimate is the bootstrap's estimate of the bias and is subtracted from
   the estimate (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 10).
3. The variance is that of the resamples, but at least that of a share of n independent cases.
4. The interval is normal on this scale, 1.96 standard deviations to each side, and is moved back to x = sin(angle)^2.
   If it misses the estimate, it is extended to it.

Differences of two such figures combine their intervals, without step 2 since most of the two biases cancels, and the
correlation of their resamples (Zou and Donner, Statistics in Medicine 27, 2008: "MOVER"); ratios do so with the
logarithms. `tests/benchmarks/bench_intervals.py` simulates how often these intervals hold the true value. All other
figures have percentile intervals.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from cxr.arrays import Floats
from eval.stats.bootstrap import CONFIDENCE, Estimate, Interval, percentile_interval

_Z = float(ndtri((1 + CONFIDENCE) / 2))

_TINY = 1e-12
"""Shares below this count as 0, and spreads below it as none."""

Limits = tuple[float, float, float]
"""Estimate, lower and upper end of an interval."""


@dataclass(frozen=True, eq=False)
class Resampled:
    """A figure with its bootstrap.

    value: on the original sample. samples: (R,) on the resamples; NaN values are ignored. num_cases: number of true
    boxes or images that the figure is a share of, which makes it a value in [0, 1] with a corrected interval; None for
    a percentile interval.
    """

    value: float
    samples: Floats
    num_cases: float | None = None

    @property
    def interval(self) -> Interval:
        """The 95 % interval; NaN without a value or without resamples."""
        if self.num_cases is None:
            return percentile_interval(self.samples)
        known = self.angles[~np.isnan(self.angles)]
        bias = float(known.mean()) - float(self._angle(np.array(self.value))) if len(known) else math.nan
        _, low, high = self.limits(_Z, bias=bias)
        return Interval(low, high)

    @property
    def estimate(self) -> Estimate:
        """Value and interval."""
        interval = self.interval
        return Estimate(self.value, interval.low, interval.high)

    def limits(self, z: float, *, bias: float = 0.0) -> Limits:
        """The value, and `z` standard deviations below and above the value without its bias (an angle)."""
        centre = float(self._angle(np.array(self.value))) - bias
        low, high = (_share(centre + side * z * self._deviation) for side in (-1, 1))
        return self.value, min(low, self.value), max(high, self.value)

    @cached_property
    def angles(self) -> Floats:
        """(R,) the resamples on the arcsine scale."""
        return self._angle(self.samples)

    @cached_property
    def _deviation(self) -> float:
        known = self.angles[~np.isnan(self.angles)]
        return max(float(known.std()), (4 * (self.num_cases or 0) + 2) ** -0.5) if len(known) else math.nan

    def _angle(self, shares: Floats) -> Floats:
        num = self.num_cases or 0
        return np.asarray(np.arcsin(np.sqrt((num * np.clip(shares, 0, 1) + 3 / 8) / (num + 3 / 4))), dtype=np.float64)


def difference_of(first: Resampled, second: Resampled) -> Estimate:
    """First minus second, both on the same resamples, with its 95 % interval."""
    if first.num_cases is None or second.num_cases is None:
        gap = percentile_interval(first.samples - second.samples)
    elif _same(first, second):
        gap = Interval(0.0, 0.0)
    else:
        gap = _combined(first.limits(_Z), second.limits(_Z), _correlation(first, second))
    return Estimate(first.value - second.value, gap.low, gap.high)


def ratio_of(first: Resampled, second: Resampled) -> Estimate:
    """First over second, both on the same resamples, with its 95 % interval.

    NaN where the second is 0. The upper end is NaN where the second may be 0, because then the ratio has no bound.
    """
    value = first.value / second.value if second.value > 0 else math.nan
    if first.num_cases is None or second.num_cases is None:
        none = np.full_like(first.samples, np.nan)
        ends = percentile_interval(np.divide(first.samples, second.samples, out=none, where=second.samples > 0))
        return Estimate(value, ends.low, ends.high)
    if _same(first, second):
        return Estimate(value, value, value)
    whole = second.limits(_Z)
    logs = _combined(_logs(first.limits(_Z)), _logs(whole), _correlation(first, second))
    return Estimate(value, math.exp(logs.low), math.exp(logs.high) if whole[1] > _TINY else math.nan)


def p_value(gaps: Floats) -> float:
    """Two-sided p-value of a difference from its R bootstrap samples; NaN without samples.

    Twice the smaller share on one side of zero, at least 2 / (R + 1) (Davison and Hinkley 1997, section 4.2).
    """
    known = gaps[~np.isnan(gaps)]
    if not len(known):
        return float("nan")
    smaller = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (smaller + 1) / (len(known) + 1)))


def p_of_difference(first: Resampled, second: Resampled) -> float:
    """Two-sided p-value of first minus second: the interval with a confidence of 1 - p ends at zero.

    At least 2 / (R + 1), as in `p_value`, which serves the figures with percentile intervals.
    """
    if first.num_cases is None or second.num_cases is None:
        return p_value(first.samples - second.samples)
    shared, above, below = _correlation(first, second), first, second
    if first.value < second.value:
        above, below = second, first

    def low(z: float) -> float:
        return _combined(above.limits(z), below.limits(z), shared).low

    least = 2 / (1 + np.count_nonzero(~np.isnan(first.samples - second.samples)))
    most = -float(ndtri(least / 2))
    if math.isnan(low(most)):
        return math.nan
    if _same(first, second) or low(0) <= 0:
        return 1.0
    return float(least) if low(most) > 0 else float(2 * ndtr(-brentq(low, 0.0, most)))


def _same(first: Resampled, second: Resampled) -> bool:
    """Whether two sets of boxes are equal as far as resamples can tell, so that there is no difference in any sample.

    Not where nothing varies: two detectors that find all boxes of a small sample may well differ.
    """
    known = first.samples[~np.isnan(first.samples)]
    varies = len(known) > 1 and float(np.ptp(known)) > _TINY
    return varies and first.value == second.value and np.array_equal(first.samples, second.samples, equal_nan=True)


def _combined(first: Limits, second: Limits, correlation: float) -> Interval:
    """Zou and Donner's limits of first minus second."""
    gap = first[0] - second[0]
    low = _hypotenuse(first[0] - first[1], second[2] - second[0], correlation)
    high = _hypotenuse(first[2] - first[0], second[0] - second[1], correlation)
    return Interval(gap - low, gap + high)


def _hypotenuse(a: float, b: float, correlation: float) -> float:
    return math.sqrt(max(a * a + b * b - 2 * correlation * a * b, 0.0))


def _correlation(first: Resampled, second: Resampled) -> float:
    """Of the resamples on the arcsine scale; 0 where one of them does not vary."""
    known = ~np.isnan(first.angles + second.angles)
    one, other = first.angles[known], second.angles[known]
    if len(one) < 2 or min(one.std(), other.std()) < _TINY:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _share(angle: float) -> float:
    return math.sin(min(max(angle, 0.0), math.pi / 2)) ** 2 if not math.isnan(angle) else angle


def _logs(limits: Limits) -> Limits:
    centre, low, high = (math.log(max(value, _TINY)) for value in limits)
    return centre, low, high

"""Confidence intervals by bootstrap over patients or images, and paired differences.

The unit that is drawn is the group (a patient, or an image where no patient is known): boxes of one
image and images of one patient are not independent, so drawing boxes would make intervals too
narrow. Every prediction set that is compared sees the same draws (same groups, same seed).
Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from cxr.arrays import Floats

Counts = npt.NDArray[np.int32]
Block = npt.NDArray[np.int32]
"""(I, B): how often each image occurs in each of B resamples."""

MAX_CELLS = 2_000_000
"""Upper bound of (images x resamples) held at once: keeps a bootstrap under some 50 MB."""

BLOCK = 64
"""Resamples at once; more would fall out of the processor's cache and be slower."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A 95 % percentile interval; NaN where no resample has a value."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """First minus second on the same images, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """True when the interval leaves zero out, so that one of the two is really better."""
        return self.low > 0 or self.high < 0


def resample_counts(groups: Sequence[str], *, num_resamples: int = 1000, seed: int = 0) -> Counts:
    """How often each item occurs when whole groups are drawn with replacement.

    groups: (N,) the group of each item. Returns (R, N) counts. Depends on the order in which groups
    first appear and on the seed, on nothing else. (0, N) for a single group: all draws of it would be alike, and
    their interval, of no width, would claim a certainty that one patient cannot give.
    """
    return _resample_counts(tuple(groups), num_resamples, seed)


@lru_cache(maxsize=1)
def _resample_counts(groups: tuple[str, ...], num_resamples: int, seed: int) -> Counts:
    number = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    if len(number) == 1:
        return np.zeros((0, len(groups)), dtype=np.int32)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(number), size=(num_resamples, len(number))) if number else None
    if drawn is None:
        return np.zeros((num_resamples, 0), dtype=np.int32)
    # One bincount for all resamples: resample r owns the bins [r * G, (r + 1) * G).
    bins = drawn + np.arange(num_resamples)[:, None] * len(number)
    times = np.bincount(bins.ravel(), minlength=num_resamples * len(number))
    of_item = np.array([number[group] for group in groups])
    counts: Counts = times.reshape(num_resamples, len(number))[:, of_item].astype(np.int32)
    counts.flags.writeable = False
    return counts


def percentile_interval(values: Floats) -> Interval:
    """(R,) values, NaN left out -> the 95 % percentile interval."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Interval(float("nan"), float("nan"))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(known, [tail, 100 - tail])
    return Interval(float(low), float(high))


def over_blocks(counts: npt.NDArray[np.integer], figures: Sequence[Callable[[Block], Floats]]) -> Floats:
    """(R, I) counts -> (R, K): each of K figures, from (I, B) to (B,), over blocks of resamples."""
    values = np.empty((len(counts), len(figures)))
    rows = min(BLOCK, max(1, MAX_CELLS // max(1, counts.shape[1])))
    for start in range(0, len(counts), rows):
        block = np.ascontiguousarray(counts[start : start + rows].T, dtype=np.int32)
        for k, figure in enumerate(figures):
            values[start : start + rows, k] = figure(block)
    return values

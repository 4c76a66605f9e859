"""Bootstrap resamples of patients or images, and percentile intervals; `eval.stats.intervals` has those of AP.

Whole patients are resampled, or single images where the patient is not known, because boxes of one image and images of
one patient are not independent. Predictions that are compared share their resamples (same groups, same seed).

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from cxr.arrays import Floats

Counts = npt.NDArray[np.integer]
"""(R, I): how often each of I images occurs in each of R resamples."""

Block = npt.NDArray[np.int32]
"""(I, B): the transposed counts of B resamples."""

MAX_CELLS = 2_000_000
"""Upper bound of images x resamples held in memory at once; a bootstrap needs about 50 MB."""

BLOCK = 64
"""Resamples computed at once. Larger blocks exceed the processor's cache and are slower."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A 95 % percentile interval; NaN where no resample has a value."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; of a comparison, the first minus the second on the same images."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """True when the interval excludes zero; of a difference: the two differ significantly."""
        return self.low > 0 or self.high < 0


class BootstrapOptions(TypedDict, total=False):
    """How images are resampled for intervals.

    groups: (N,) patient of each image; default: None, which resamples single images. num_resamples: default 1000.
    seed: default 0.
    """

    groups: Sequence[str] | None
    num_resamples: int
    seed: int


def resample_images(num_images: int, options: Mapping[str, Any]) -> Counts:
    """(R, N) how often each image occurs in each resample. options: `BootstrapOptions`; other keys are ignored."""
    groups = options.get("groups")
    return resample_counts(
        [str(i) for i in range(num_images)] if groups is None else groups,
        num_resamples=options.get("num_resamples", 1000),
        seed=options.get("seed", 0),
    )


def resample_counts(groups: Sequence[str], *, num_resamples: int = 1000, seed: int = 0) -> Counts:
    """(R, N) how often each item occurs when whole groups are sampled with replacement.

    groups: (N,) the group of each item; its order of first appearance and the seed determine the result. A single group
    gives (0, N), because an interval of zero width would claim a certainty that one patient cannot give.
    """
    return _resample_counts(tuple(groups), num_resamples, seed)


@lru_cache(maxsize=1)
def _resample_counts(groups: tuple[str, ...], num_resamples: int, seed: int) -> Counts:
    number = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    if len(number) == 1:
        return np.zeros((0, len(groups)), dtype=np.int32)
    rng = np.random.default_rng(seed)
    if not number:
        return np.zeros((num_resamples, 0), dtype=np.int32)
    sampled = rng.integers(len(number), size=(num_resamples, len(number)))
    # One bincount for all resamples: resample r owns the bins [r * G, (r + 1) * G).
    bins = sampled + np.arange(num_resamples)[:, None] * len(number)
    times = np.bincount(bins.ravel(), minlength=num_resamples * len(number))
    of_item = np.array([number[group] for group in groups])
    counts: Counts = times.reshape(num_resamples, len(number))[:, of_item].astype(np.int32)
    counts.flags.writeable = False
    return counts


def percentile_interval(values: Floats) -> Interval:
    """The 95 % percentile interval of (R,) values. NaN values are ignored; without any other the interval is NaN."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Interval(float("nan"), float("nan"))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(known, [tail, 100 - tail])
    return Interval(float(low), float(high))


def over_blocks(counts: Counts, figures: Sequence[Callable[[Block], Floats]]) -> Floats:
    """(R, K) figures of all resamples (R, I), computed in blocks. figures: K functions from a block (I, B) to (B,)."""
    values = np.empty((len(counts), len(figures)))
    rows = min(BLOCK, max(1, MAX_CELLS // max(1, counts.shape[1])))
    for start in range(0, len(counts), rows):
        block = np.ascontiguousarray(counts[start : start + rows].T, dtype=np.int32)
        for k, figure in enumerate(figures):
            values[start : start + rows, k] = figure(block)
    return values

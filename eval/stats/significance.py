"""What a paired bootstrap difference is worth when many are looked at together."""

from collections.abc import Sequence

import numpy as np

from cxr.arrays import Floats

ALPHA = 0.05
"""Chance of a single false difference among all comparisons that is borne."""


def needed_resamples(num_comparisons: int) -> int:
    """Resamples from which on the smallest p-value, corrected for so many comparisons, falls below `ALPHA`."""
    return round(2 * num_comparisons / ALPHA)


def p_value(gaps: Floats) -> float:
    """Two-sided p-value of a difference from its bootstrap draws (R,): twice the smaller share on one side of zero,
    never below 2 / (R + 1) (Davison & Hinkley 1997, section 4.2). NaN without draws."""
    known = gaps[~np.isnan(gaps)]
    if not len(known):
        return float("nan")
    smaller = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (smaller + 1) / (len(known) + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979, Scand. J. Statist. 6): adjusted p-values in the given order; NaN stays and
    does not count."""
    p = np.asarray(p_values, dtype=np.float64)
    order = [int(index) for index in np.argsort(p) if not np.isnan(p[index])]
    adjusted, least = np.full(len(p), np.nan), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p[index]))
        adjusted[index] = least
    return [float(value) for value in adjusted]

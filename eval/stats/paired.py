"""Paired comparisons on the same bootstrap resamples: p-values and Holm's correction for several comparisons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.stats.bootstrap import Estimate
from eval.stats.intervals import p_of_difference
from eval.stats.measures import Bootstrapped, difference

ALPHA = 0.05
"""Accepted chance of a single false difference among all comparisons."""


def needed_resamples(num_comparisons: int) -> int:
    """Resamples that are needed so that the smallest p-value, corrected for all comparisons, can fall below `ALPHA`."""
    return round(2 * num_comparisons / ALPHA)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scand. J. Statist. 6, 1979) in the given order; NaN stays and does not count."""
    p = np.asarray(p_values, dtype=np.float64)
    order = [int(index) for index in np.argsort(p) if not np.isnan(p[index])]
    adjusted, least = np.full(len(p), np.nan), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p[index]))
        adjusted[index] = least
    return [float(value) for value in adjusted]


@dataclass(frozen=True)
class Comparison:
    """One entry minus another, on the same resamples of the test split.

    name: the other entry's name. gap: difference of the means over classes. p_holm: two-sided p-value, corrected (Holm)
    for all comparisons made together; NaN without resamples.
    """

    name: str
    gap: Estimate
    p_holm: float

    @property
    def survives(self) -> bool:
        """Whether the difference is significant also after the correction."""
        return self.gap.is_clear and self.p_holm < ALPHA

    @property
    def result(self) -> str:
        """ "better", "worse" or "not significantly different": the one entry, by the interval of the difference."""
        if not self.gap.is_clear:
            return "not significantly different"
        return "better" if self.gap.value > 0 else "worse"


def compare_paired(one: Bootstrapped, others: Mapping[str, Bootstrapped]) -> list[Comparison]:
    """One entry against each of the others, in their order; p-values are corrected for the number of comparisons."""
    gaps = {name: difference(one, other) for name, other in others.items()}
    raw = [p_of_difference(one.of(), other.of()) for other in others.values()]
    return [Comparison(name, gaps[name], p) for name, p in zip(others, holm(raw), strict=True)]

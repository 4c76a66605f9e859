"""One entry against others on the same resamples: which differences are real, and the words for them."""

from collections.abc import Mapping
from dataclasses import dataclass

from cxr.arrays import mean_over_classes
from eval.stats.bootstrap import Difference
from eval.stats.measures import Bootstrapped, difference
from eval.stats.significance import ALPHA, holm, p_value


@dataclass(frozen=True)
class Comparison:
    """One entry against another, on the same resamples of the test split.

    gap: mean of the one minus that of the other. p_holm: its two-sided p-value, corrected for all comparisons made.
    """

    name: str
    gap: Difference
    p_holm: float

    @property
    def survives(self) -> bool:
        """Whether the difference is real also after the correction."""
        return self.gap.is_clear and self.p_holm < ALPHA

    @property
    def place(self) -> str:
        """Where the one stands: "clearly above", "clearly below" or "not clearly apart from" the other."""
        if not self.gap.is_clear:
            return "not clearly apart from"
        return "clearly above" if self.gap.value > 0 else "clearly below"


def compare_paired(one: Bootstrapped, others: Mapping[str, Bootstrapped]) -> list[Comparison]:
    """One against each of the others, in their order; p-values corrected by Holm for as many as there are."""
    gaps = {name: difference(one, other) for name, other in others.items()}
    raw = [
        p_value(mean_over_classes(one.samples) - mean_over_classes(other.samples))
        for other in others.values()
    ]
    return [Comparison(name, gaps[name], p) for name, p in zip(others, holm(raw), strict=True)]

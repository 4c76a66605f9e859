"""One entry against others on the same bootstrap resamples: which differences are significant."""

from collections.abc import Mapping
from dataclasses import dataclass

from cxr.arrays import mean_over_classes
from eval.stats.bootstrap import Difference
from eval.stats.measures import Bootstrapped, difference
from eval.stats.significance import ALPHA, holm, p_value


@dataclass(frozen=True)
class Comparison:
    """The difference between one entry and another, from the same resamples of the test split.

    name: of the other entry. gap: mean over the classes of the one minus that of the other. p_holm: two-sided p-value,
    corrected (Holm) for all comparisons made together; NaN without resamples.
    """

    name: str
    gap: Difference
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
    raw = [p_value(mean_over_classes(one.samples) - mean_over_classes(other.samples)) for other in others.values()]
    return [Comparison(name, gaps[name], p) for name, p in zip(others, holm(raw), strict=True)]

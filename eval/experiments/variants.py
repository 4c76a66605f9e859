"""Variants of a training compared with one of them: figures with intervals, paired differences, verdicts.

Variants are compared on the same cases in the same draws of patients, so that what makes a case hard does not count as
a difference. Several trainings of a variant (seeds) are averaged in each draw.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cxr.arrays import Floats
from eval.stats.bootstrap import Difference, percentile_interval
from eval.stats.significance import ALPHA, holm, p_value


@dataclass(frozen=True)
class Figures:
    """M figures of one training, or of several together: as they are (M,), and in each draw of patients (R, M). The
    first is the one that differences are judged by."""

    point: Floats
    draws: Floats

    def minus(self, other: "Figures") -> "Figures":
        """The difference on the same cases in the same draws."""
        return Figures(self.point - other.point, self.draws - other.draws)

    def estimates(self) -> tuple[Difference, ...]:
        """Value and 95 % interval of each figure."""
        intervals = [percentile_interval(column) for column in self.draws.T]
        pairs = zip(self.point, intervals, strict=True)
        return tuple(Difference(float(value), interval.low, interval.high) for value, interval in pairs)


Trainings = Mapping[int | None, Figures]
"""Runs of one variant by seed; None for one that stands for all seeds."""


@dataclass(frozen=True)
class Row:
    """One variant beside its reference; the latter has no gaps, nor has anything where it failed.

    values, gaps: in the order of `Figures`. by_seed: difference of the first figure of each pair of trainings.
    p_holm: `p` corrected for all comparisons.
    """

    variant: str
    values: tuple[Difference, ...]
    is_reference: bool = False
    gaps: tuple[Difference, ...] = ()
    by_seed: tuple[float, ...] = ()
    p: float = float("nan")
    p_holm: float = float("nan")

    @property
    def gap(self) -> Difference | None:
        """The difference that is judged."""
        return self.gaps[0] if self.gaps else None

    @property
    def is_clear(self) -> bool:
        """The interval leaves zero out, and every pair of trainings differs in the same direction."""
        return self.gap is not None and self.gap.is_clear and self._seeds_agree

    @property
    def is_real(self) -> bool:
        """Clear in several trainings: the interval tells of the choice of cases, not of the luck of one training."""
        return self.is_clear and len(self.by_seed) > 1

    @property
    def survives_holm(self) -> bool:
        return self.is_clear and self.p_holm < ALPHA

    @property
    def verdict(self) -> str:
        """In words, for instance "real: +.021 [.008, .034]"."""
        if self.gap is None:
            return "reference" if self.is_reference else "no reference"
        word = "real" if self.is_real else "clear, one training" if self.is_clear else "not shown"
        disagree = "; seeds disagree" if self.gap.is_clear and not self._seeds_agree else ""
        return f"{word}: {signed_interval(self.gap)}{disagree}"

    @property
    def _seeds_agree(self) -> bool:
        return all(gap > 0 for gap in self.by_seed) or all(gap < 0 for gap in self.by_seed)


def signed(value: float) -> str:
    """ "+.021", "-.3", "+1.000"."""
    return f"{value:+.3f}".replace("+0.", "+.").replace("-0.", "-.").replace("-", "−")


def signed_interval(gap: Difference) -> str:
    """ "+.021 [.008, .034]"; the value alone where there is no interval, as with a single patient."""
    if np.isnan(gap.low) or np.isnan(gap.high):
        return signed(gap.value)
    low, high = (f"{end:.3f}".replace("0.", ".", 1).replace("-", "−") for end in (gap.low, gap.high))
    return f"{signed(gap.value)} [{low}, {high}]"


def mean_of(trainings: Sequence[Figures]) -> Figures:
    """Several trainings of one variant: their mean, in each draw anew. The draws tell of the choice of patients."""
    return Figures(
        np.mean([one.point for one in trainings], axis=0), np.mean([one.draws for one in trainings], axis=0)
    )


def mean_with_seeds(trainings: Sequence[Figures]) -> Figures:
    """As `mean_of`, but the S trainings are drawn too, so that the draws tell of patients and of training again.

    The mean of S drawn with replacement has (S - 1) / S of the variance that it should have (Efron & Tibshirani 1993,
    section 5.3), so its distance from the mean over all is stretched by sqrt(S / (S - 1)). The same places are drawn
    for every variant: trainings with one seed stay pairs. The luck of a single training has no measure: then `mean_of`.
    """
    mean, num = mean_of(trainings), len(trainings)
    if num < 2:
        return mean
    num_draws = len(mean.draws)
    drawn = np.random.default_rng(num).integers(num, size=(num_draws, num))
    shares = np.stack([(drawn == place).mean(axis=1) for place in range(num)])
    of_drawn = np.einsum("sr,srm->rm", shares, np.stack([one.draws for one in trainings]))
    return Figures(mean.point, mean.draws + np.sqrt(num / (num - 1)) * (of_drawn - mean.draws))


def compare(
    variants: Mapping[str, Trainings],
    reference: Trainings | None,
    *,
    together: Callable[[Sequence[Figures]], Figures] = mean_of,
) -> list[Row]:
    """One row a variant, with its trainings by seed (None: one for all seeds); without gaps where there is no
    reference. together: how trainings of a variant become one, `mean_of` or `mean_with_seeds`."""
    return [_row(name, own, reference, together) for name, own in variants.items()]


def _row(
    name: str, own: Trainings, reference: Trainings | None, together: Callable[[Sequence[Figures]], Figures]
) -> Row:
    mine = together(list(own.values()))
    row = Row(name, mine.estimates(), is_reference=own is reference)
    if reference is None or row.is_reference:
        return row
    gap = mine.minus(together(list(reference.values())))
    by_seed = tuple(float(a.minus(b).point[0]) for a, b in _pairs(own, reference))
    return replace(row, gaps=gap.estimates(), by_seed=by_seed, p=p_value(gap.draws[:, 0]))


def _pairs(a: Trainings, b: Trainings) -> list[tuple[Figures, Figures]]:
    """Trainings with the same seed; one that stands for all seeds is paired with each of the other side."""
    if None in a:
        return [(a[None], other) for other in b.values()]
    if None in b:
        return [(own, b[None]) for own in a.values()]
    return [(a[seed], b[seed]) for seed in a if seed in b]


def correct(tables: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    """The rows of all tables with `p_holm`, corrected for all comparisons together."""
    compared = [row for rows in tables.values() for row in rows]
    adjusted = iter(holm([row.p for row in compared]))
    return {name: [replace(row, p_holm=next(adjusted)) for row in rows] for name, rows in tables.items()}


def verdicts_in_words(rows: Mapping[str, Row], *, num_seeds: int) -> str:
    """ "Real differences: 1 (heads/lse +.084). After Holm's correction for 6 comparisons: none."; rows by full name."""
    clear = [f"{name} {signed(row.gap.value)}" for name, row in rows.items() if row.gap and row.is_clear]
    surviving = [name for name, row in rows.items() if row.survives_holm]
    num = sum(row.gap is not None for row in rows.values())
    word = "Real differences" if num_seeds > 1 else "Clear on these cases, with one training each"
    after = f"After Holm's correction for {num} comparisons: {_counted(surviving)}."
    return f"{word}: {_counted(clear)}. {after}"


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "none"

"""Variants of a training compared with a reference variant: figures with intervals, paired differences, Holm.

All variants are evaluated on the same cases and the same bootstrap resamples of patients, so differences are paired.
Several trainings of a variant (seeds) are averaged within each resample.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cxr.arrays import Floats
from eval.report.format import gap_text
from eval.stats.bootstrap import Estimate
from eval.stats.intervals import Resampled, difference_of, p_of_difference, ratio_of
from eval.stats.paired import ALPHA, holm


@dataclass(frozen=True)
class Figures:
    """M figures of one training, or the mean of several. The first figure decides what differs significantly.

    values: (M,) on all cases. samples: (R, M) on each bootstrap resample of patients. num_boxes: (M,) as
    `eval.stats.intervals.Resampled.num_cases`; None for figures with percentile intervals.
    """

    values: Floats
    samples: Floats
    num_boxes: Floats | None = None

    @classmethod
    def of(cls, figures: Sequence[Resampled]) -> "Figures":
        """M figures with their resamples, all of them shares of boxes or none."""
        values = np.array([one.value for one in figures])
        samples = np.stack([one.samples for one in figures], axis=1)
        num_boxes = [one.num_cases for one in figures if one.num_cases is not None]
        return cls(values, samples, np.array(num_boxes) if num_boxes else None)

    def __getitem__(self, place: int) -> Resampled:
        num_boxes = None if self.num_boxes is None else float(self.num_boxes[place])
        return Resampled(float(self.values[place]), self.samples[:, place], num_boxes)

    def minus(self, other: "Figures") -> tuple[Estimate, ...]:
        """The paired differences of each figure: same cases, same resamples."""
        return tuple(difference_of(self[place], other[place]) for place in range(len(self.values)))

    def estimates(self) -> tuple[Estimate, ...]:
        """Value and 95 % interval of each figure."""
        return tuple(self[place].estimate for place in range(len(self.values)))


Trainings = Mapping[int | None, Figures]
"""Trainings of one variant by seed. The key None stands for all seeds."""


@dataclass(frozen=True)
class Row:
    """One variant and how it differs from the reference.

    values, differences: in the order of `Figures`; no differences for the reference, or where it failed. by_seed,
    differences_by_seed: first figure of each training and pair of trainings. p_holm: `p` corrected for all comparisons.
    """

    variant: str
    values: tuple[Estimate, ...]
    is_reference: bool = False
    by_seed: Mapping[int | None, float] = field(default_factory=dict)
    differences: tuple[Estimate, ...] = ()
    differences_by_seed: tuple[float, ...] = ()
    p: float = float("nan")
    p_holm: float = float("nan")

    @property
    def difference(self) -> Estimate | None:
        """The difference of the first figure."""
        return self.differences[0] if self.differences else None

    @property
    def is_significant(self) -> bool:
        """The interval excludes zero, and all pairs of trainings differ in the same direction."""
        return self.difference is not None and self.difference.is_clear and self._seeds_agree

    @property
    def is_replicated(self) -> bool:
        """Significant with several seeds, so that the luck of a single training does not explain it."""
        return self.is_significant and len(self.differences_by_seed) > 1

    @property
    def survives_holm(self) -> bool:
        return self.is_significant and self.p_holm < ALPHA

    @property
    def verdict(self) -> str:
        """In words, for instance "significant: +0.021 [0.008, 0.034]"."""
        if self.difference is None:
            return "reference" if self.is_reference else "no reference"
        word = "significant" if self.is_significant else "not significant"
        one = ", one training" if self.is_significant and not self.is_replicated else ""
        disagree = "; seeds disagree" if self.difference.is_clear and not self._seeds_agree else ""
        return f"{word}{one}: {gap_text(self.difference)}{disagree}"

    @property
    def _seeds_agree(self) -> bool:
        gaps = self.differences_by_seed
        return all(gap > 0 for gap in gaps) or all(gap < 0 for gap in gaps)


def mean_of(trainings: Sequence[Figures]) -> Figures:
    """The mean of S trainings. With two or more, its samples vary with the trainings as well as with the patients.

    Each sample averages S trainings chosen with replacement, the same ones for every variant. The variance of such a
    mean is too small by (S - 1) / S (Efron and Tibshirani 1993, section 5.3); a factor sqrt(S / (S - 1)) corrects it.
    """
    num = len(trainings)
    stacked = np.stack([one.samples for one in trainings])
    values, mean = np.mean([one.values for one in trainings], axis=0), stacked.mean(axis=0)
    if num < 2:
        return Figures(values, mean, trainings[0].num_boxes)
    chosen = np.random.default_rng(num).integers(num, size=(len(mean), num))
    shares = np.stack([(chosen == place).mean(axis=1) for place in range(num)])
    resampled = np.einsum("sr,srm->rm", shares, stacked)
    return Figures(values, mean + np.sqrt(num / (num - 1)) * (resampled - mean), trainings[0].num_boxes)


def share_of(own: Figures, whole: Figures) -> Estimate:
    """The first figure of `own` as a share of that of `whole`; NaN where `whole` is 0."""
    return ratio_of(own[0], whole[0])


def spread(values: Iterable[float]) -> float:
    """Standard deviation of single trainings; NaN of one."""
    known = list(values)
    return float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")


def compare(variants: Mapping[str, Trainings], reference: Trainings | None) -> list[Row]:
    """One row per variant, with differences where there is a reference."""
    return [_row(name, own, reference) for name, own in variants.items()]


def _row(name: str, own: Trainings, reference: Trainings | None) -> Row:
    mean = mean_of(list(own.values()))
    by_seed = {seed: float(one.values[0]) for seed, one in own.items()}
    row = Row(name, mean.estimates(), own is reference, by_seed)
    if reference is None or row.is_reference:
        return row
    other = mean_of(list(reference.values()))
    return replace(
        row,
        differences=mean.minus(other),
        differences_by_seed=tuple(float(a.values[0] - b.values[0]) for a, b in _pairs(own, reference)),
        p=p_of_difference(mean[0], other[0]),
    )


def _pairs(a: Trainings, b: Trainings) -> list[tuple[Figures, Figures]]:
    """Trainings with the same seed. One that stands for all seeds is paired with each training of the other side."""
    if None in a:
        return [(a[None], other) for other in b.values()]
    if None in b:
        return [(own, b[None]) for own in a.values()]
    return [(a[seed], b[seed]) for seed in a if seed in b]


def correct(tables: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    """The rows of all tables with `p_holm`, corrected for all comparisons together."""
    adjusted = iter(holm([row.p for rows in tables.values() for row in rows]))
    return {name: [replace(row, p_holm=next(adjusted)) for row in rows] for name, rows in tables.items()}


def counts(rows: Iterable[Row]) -> dict[str, float | None]:
    """The metrics ``comparisons``, ``real`` (significant with several seeds) and ``real_after_holm``."""
    compared = [row for row in rows if row.difference is not None]
    return {
        "comparisons": len(compared),
        "real": sum(row.is_replicated for row in compared),
        "real_after_holm": sum(row.survives_holm for row in compared),
    }

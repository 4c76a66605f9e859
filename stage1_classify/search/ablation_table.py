"""Figures of an ablation: mean AUROC and AUPRC of each variant with intervals, and its difference to the reference.

Variants are compared on the same cases in the same draws of patients, so that what makes a case hard does not count as
a difference. Several trainings of a variant (seeds) are averaged in each draw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.config import UserError
from eval.average_precision import mean_over_classes
from eval.bootstrap import Counts, Difference, percentile_interval, resample_counts
from eval.significance import ALPHA, holm, p_value
from eval.weighted import Ranking, in_parts

Floats = npt.NDArray[np.float64]

METRICS = ("auroc", "auprc")


@dataclass(frozen=True)
class Cases:
    """What a group's variants are judged on: ids in order, labels (N, K) of 1, 0 or NaN, a patient of each case."""

    ids: tuple[str, ...]
    labels: Floats
    patients: tuple[str, ...]

    def enough(self, min_positives: int) -> npt.NDArray[np.bool_]:
        """(K,) which findings have so many positives (at least one) and count in the means."""
        return np.asarray((self.labels == 1).sum(axis=0) >= max(1, min_positives))

    def in_words(self, findings: Sequence[str], *, min_positives: int) -> str:
        """How many cases, and how many positives of each finding."""
        counts = zip(findings, (self.labels == 1).sum(axis=0), self.enough(min_positives), strict=True)
        told = [
            f"{finding} {count}{'' if counted else ' (too few for the mean)'}"
            for finding, count, counted in counts
        ]
        return (
            f"{len(self.ids)} test cases of {len(set(self.patients))} patients; positives: {', '.join(told)}."
        )


@dataclass(frozen=True)
class Drawn:
    """Figures in the order of `METRICS`, mean over findings: point (2,), and in each draw (R, 2)."""

    point: Floats
    draws: Floats

    def minus(self, other: "Drawn") -> "Drawn":
        """The difference on the same cases in the same draws."""
        return Drawn(self.point - other.point, self.draws - other.draws)

    def estimate(self, metric: int) -> Difference:
        """Value and 95 % interval."""
        interval = percentile_interval(self.draws[:, metric])
        return Difference(float(self.point[metric]), interval.low, interval.high)


Trainings = Mapping[int | None, Drawn]
"""Runs of one variant by seed; None for one that stands for all seeds."""


@dataclass(frozen=True)
class Row:
    """One variant beside its group's reference; the latter has no gaps, nor has anything where it failed.

    by_seed: difference of AUROC of each pair of trainings. p_holm: `p` corrected for all comparisons of the ablation.
    """

    variant: str
    auroc: Difference
    auprc: Difference
    is_reference: bool = False
    auroc_gap: Difference | None = None
    auprc_gap: Difference | None = None
    by_seed: tuple[float, ...] = ()
    p: float = float("nan")
    p_holm: float = float("nan")

    @property
    def is_clear(self) -> bool:
        """The interval leaves zero out, and every pair of trainings differs in the same direction."""
        gap = self.auroc_gap
        return gap is not None and gap.is_clear and self._seeds_agree

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
        if self.auroc_gap is None:
            return "reference" if self.is_reference else "no reference"
        word = "real" if self.is_real else "clear, one training" if self.is_clear else "not shown"
        disagree = "; seeds disagree" if self.auroc_gap.is_clear and not self._seeds_agree else ""
        return f"{word}: {signed_interval(self.auroc_gap)}{disagree}"

    @property
    def _seeds_agree(self) -> bool:
        return all(gap > 0 for gap in self.by_seed) or all(gap < 0 for gap in self.by_seed)


def signed(value: float) -> str:
    """ "+.021", "-.3", "+1.000"."""
    return f"{value:+.3f}".replace("+0.", "+.").replace("-0.", "-.").replace("-", "−")


def signed_interval(gap: Difference) -> str:
    low, high = (f"{end:.3f}".replace("0.", ".", 1).replace("-", "−") for end in (gap.low, gap.high))
    return f"{signed(gap.value)} [{low}, {high}]"


def read_cases(table: pd.DataFrame, findings: Sequence[str]) -> Cases:
    """Test cases of a table of predictions; a case without a known patient counts as one of its own."""
    test = table[table["split"] == "test"]
    labels = test[[f"{finding} label" for finding in findings]].to_numpy(dtype=np.float64, na_value=np.nan)
    patients = test["patient_id"].where(test["patient_id"] != "", test["image_id"])
    return Cases(tuple(test["image_id"]), labels, tuple(patients))


def probabilities_on(cases: Cases, table: pd.DataFrame, findings: Sequence[str], *, source: str) -> Floats:
    """(N, K) probabilities of another run on `cases`, in their order; cases are known by their first image.

    Raises:
        UserError: the run was judged on other cases, or against other labels.
    """
    own = read_cases(table, findings)
    if len(set(own.ids)) < len(own.ids) or set(own.ids) != set(cases.ids):
        raise UserError(
            f"{source}: was judged on other cases ({len(own.ids)}, of which {len(set(own.ids) & set(cases.ids))} "
            f"are among the {len(cases.ids)} of the reference); variants must share data, test split and cases"
        )
    position = {image_id: row for row, image_id in enumerate(own.ids)}
    order = [position[image_id] for image_id in cases.ids]
    if not np.array_equal(own.labels[order], cases.labels, equal_nan=True):
        raise UserError(f"{source}: was judged against other labels than the reference")
    test = table[table["split"] == "test"]
    return test[list(findings)].to_numpy(dtype=np.float64)[order]


def draw(cases: Cases, probabilities: Floats, *, num_resamples: int, min_positives: int, seed: int) -> Drawn:
    """Mean AUROC and AUPRC over the findings with enough positives, as they are and in draws of patients."""
    counts = resample_counts(cases.patients, num_resamples=num_resamples, seed=seed)
    chosen = np.flatnonzero(cases.enough(min_positives))
    rankings = [Ranking(cases.labels[:, k], probabilities[:, k]) for k in chosen]

    def score(weights: Counts) -> Floats:
        totals = [ranking.totals(weights) for ranking in rankings]
        by_metric = [[one.auroc() for one in totals], [one.auprc() for one in totals]]
        # (2, K, r) -> (r, 2)
        values = np.array(by_metric).reshape(len(METRICS), len(rankings), len(weights))
        return mean_over_classes(values.transpose(2, 0, 1))

    once = np.ones((1, len(cases.ids)), dtype=np.int32)
    return Drawn(in_parts(score, once)[0], in_parts(score, counts))


def mean_of(trainings: Sequence[Drawn]) -> Drawn:
    """Several trainings of one variant: their mean, in each draw anew."""
    return Drawn(
        np.mean([one.point for one in trainings], axis=0), np.mean([one.draws for one in trainings], axis=0)
    )


def compare(variants: Mapping[str, Trainings], reference: Trainings | None) -> list[Row]:
    """One row a variant, with its trainings by seed (None: one for all seeds); without gaps where there is no
    reference."""
    return [_row(name, own, reference) for name, own in variants.items()]


def _row(name: str, own: Trainings, reference: Trainings | None) -> Row:
    mine = mean_of(list(own.values()))
    row = Row(name, mine.estimate(0), mine.estimate(1), is_reference=own is reference)
    if reference is None or row.is_reference:
        return row
    gap = mine.minus(mean_of(list(reference.values())))
    return replace(
        row,
        auroc_gap=gap.estimate(0),
        auprc_gap=gap.estimate(1),
        by_seed=tuple(float(a.minus(b).point[0]) for a, b in _pairs(own, reference)),
        p=p_value(gap.draws[:, 0]),
    )


def _pairs(a: Trainings, b: Trainings) -> list[tuple[Drawn, Drawn]]:
    """Trainings with the same seed; one that stands for all seeds is paired with each of the other side."""
    if None in a:
        return [(a[None], other) for other in b.values()]
    if None in b:
        return [(own, b[None]) for own in a.values()]
    return [(a[seed], b[seed]) for seed in a if seed in b]


def correct(tables: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    """The rows of all groups with `p_holm`, corrected for all comparisons together."""
    compared = [row for rows in tables.values() for row in rows]
    adjusted = iter(holm([row.p for row in compared]))
    return {group: [replace(row, p_holm=next(adjusted)) for row in rows] for group, rows in tables.items()}

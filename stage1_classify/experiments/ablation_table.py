"""Mean AUROC and AUPRC of each training of an ablation, on the cases of its group."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.arrays import Floats, mean_over_classes
from cxr.config import UserError
from eval.classification.weighted import Ranking, in_parts
from eval.experiments.variants import Figures
from eval.stats.bootstrap import Counts, resample_counts

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


def draw(
    cases: Cases, probabilities: Floats, *, num_resamples: int, min_positives: int, seed: int
) -> Figures:
    """`METRICS`, means over the findings with enough positives, as they are and in draws of patients."""
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
    return Figures(in_parts(score, once)[0], in_parts(score, counts))

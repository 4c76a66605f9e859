"""Read ``predictions.csv`` of a classifier: predictions and labels of every evaluated case, one per row.

Columns: image_id (of the case's first view), split, patient_id and study_id ("" unknown), num_views; then per finding
``<finding>`` (probability in [0, 1]), ``<finding> label`` (1, 0, blank where unknown) and ``<finding> call`` (1, 0,
blank without a threshold).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.arrays import Bools, Floats
from cxr.config import UserError
from cxr.spreadsheet_cells import original

ADVICE = "make the run again"
CASE_COLUMNS = ("image_id", "split", "patient_id", "study_id", "num_views")


def read_predictions(path: Path, findings: Sequence[str] = ()) -> pd.DataFrame:
    """Read the file. Ids stay texts, also those like 007 or NA.

    findings: those whose columns are needed.

    Raises:
        UserError: the file lacks a column, or a split has an image twice.
    """
    texts = {name: str for name in CASE_COLUMNS[:-1]}
    table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values={})
    needed = [*CASE_COLUMNS, *findings, *(f"{name} label" for name in findings)]
    if lacking := [name for name in needed if name not in table.columns]:
        raise UserError(f"predictions: {path} has no column {', '.join(map(repr, lacking))}; {ADVICE}")
    table[list(texts)] = table[list(texts)].map(original)
    numbers = [name for name in table.columns if name not in texts]
    table[numbers] = table[numbers].apply(pd.to_numeric)
    again = table[table.duplicated(["split", "image_id"])]
    if len(again):
        image_id, split = again.iloc[0][["image_id", "split"]]
        raise UserError(
            f"predictions: {path} has {len(again)} images twice in a split, for instance {image_id!r} in {split!r}; "
            f"{ADVICE}"
        )
    return table


@dataclass(frozen=True)
class Cases:
    """Test cases of a group. ids: in order. labels: (N, K) of 1, 0 or NaN. patients: of each case."""

    ids: tuple[str, ...]
    labels: Floats
    patients: tuple[str, ...]

    def enough(self, min_positives: int) -> Bools:
        """(K,) which findings have that many positives, at least one, and so count in the means."""
        return np.asarray((self.labels == 1).sum(axis=0) >= max(1, min_positives))

    def describe(self, findings: Sequence[str], *, min_positives: int) -> str:
        """Number of cases, of patients, and of positives per finding."""
        numbers = zip(findings, (self.labels == 1).sum(axis=0), self.enough(min_positives), strict=True)
        positives = [
            f"{name} {count}{'' if counted else ' (too few for the mean)'}" for name, count, counted in numbers
        ]
        patients = len(set(self.patients))
        return f"{len(self.ids)} test cases of {patients} patients; positives: {', '.join(positives)}."


def read_cases(table: pd.DataFrame, findings: Sequence[str]) -> Cases:
    """Test cases of a table of predictions. A case without a known patient counts as its own patient."""
    test = table[table["split"] == "test"]
    labels = test[[f"{finding} label" for finding in findings]].to_numpy(dtype=np.float64, na_value=np.nan)
    patients = test["patient_id"].where(test["patient_id"] != "", test["image_id"])
    return Cases(tuple(test["image_id"]), labels, tuple(patients))

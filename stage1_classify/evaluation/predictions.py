"""A split with its predictions, and ``predictions.csv``: predictions and labels of every evaluated case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.arrays import Floats
from cxr.runs.run_folder import atomic_write_text
from cxr.tables import Dataset
from stage1_classify.data.batches import Split

CASE_COLUMNS = ("image_id", "split", "patient_id", "study_id", "num_views")


@dataclass(frozen=True)
class RawScores:
    """A split and the predicted probabilities of its cases before calibration: `raw`, (cases, K) in [0, 1]."""

    split: Split
    raw: Floats

    @property
    def targets(self) -> Floats:
        """(cases, K) 1, 0 or NaN."""
        return self.split.targets.astype(np.float64)


@dataclass(frozen=True)
class Scored(RawScores):
    """probabilities: `raw` after calibration."""

    probabilities: Floats


@dataclass(frozen=True)
class Evidence:
    """The data that a classifier is evaluated on.

    data: the whole data set. ids: split name -> image ids of the training. val: for calibration and thresholds.
    test: for the figures. train: None for an ensemble. members: folders of the runs of an ensemble. combine: how the
    ensemble combines them.
    """

    data: Dataset
    ids: Mapping[str, list[str]]
    val: RawScores
    test: RawScores
    train: Split | None = None
    members: Sequence[str] = ()
    combine: str = ""


def prediction_table(scored: Mapping[str, Scored], findings: Sequence[str], thresholds: Floats) -> pd.DataFrame:
    """One row per case, in the order of the splits and of their cases.

    Columns: image_id (of the case's first view), split, patient_id and study_id ("" unknown), num_views; then per
    finding ``<finding>`` (probability in [0, 1]), ``<finding> label`` (1, 0, missing where unknown) and
    ``<finding> call`` (1 from the threshold upwards, else 0; missing without a threshold).

    Args:
        thresholds: (K,), NaN where a finding has none.
    """
    return pd.concat([_split_table(*item, findings, thresholds) for item in scored.items()], ignore_index=True)


def write_predictions(path: Path, scored: Mapping[str, Scored], findings: Sequence[str], thresholds: Floats) -> Path:
    """Write `prediction_table` as CSV, missing cells blank, probabilities to nine digits; returns the path."""
    table = prediction_table(scored, findings, thresholds)
    atomic_write_text(path, table.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
    return path


def read_predictions(path: Path) -> pd.DataFrame:
    """Read the file of `write_predictions`. Ids stay texts, also those like 007 or NA."""
    texts = {name: str for name in CASE_COLUMNS[:-1]}
    table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values={})
    numbers = [name for name in table.columns if name not in texts]
    table[numbers] = table[numbers].apply(pd.to_numeric)
    return table


def _split_table(name: str, part: Scored, findings: Sequence[str], thresholds: Floats) -> pd.DataFrame:
    images = part.split.cases.first.images
    columns: dict[str, object] = {
        "image_id": images["image_id"].tolist(),
        "split": name,
        "patient_id": images["patient_id"].tolist(),
        "study_id": images["study_id"].tolist(),
        "num_views": [len(views) for views in part.split.cases.views],
    }
    for k, finding in enumerate(findings):
        probability, label = part.probabilities[:, k], part.split.targets[:, k]
        called = np.where(np.isnan(thresholds[k]), np.nan, probability >= thresholds[k])
        columns[finding] = probability
        columns[f"{finding} label"] = pd.Series(label).astype("Int64")
        columns[f"{finding} call"] = pd.Series(called).astype("Int64")
    return pd.DataFrame(columns)

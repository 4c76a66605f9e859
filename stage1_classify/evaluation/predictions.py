"""A split with its predictions, and ``predictions.csv``: predictions and labels of every evaluated case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.arrays import Floats
from cxr.runs.run_folder import FinishedRun, atomic_write_text
from cxr.spreadsheet_cells import inert
from cxr.tables import Dataset
from eval.classification.prediction_file import CASE_COLUMNS
from stage1_classify.data.batches import Split


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

    data: the whole data set. ids: split name -> image ids of the training. val: for calibration and thresholds; None
    for a finished classifier, which has them. test: for the figures. train: None without a training, as for an
    ensemble. members: folders of the runs of an ensemble. combine: how the ensemble combines them. classifier: folder
    of the finished classifier that is evaluated on this data set.
    """

    data: Dataset
    ids: Mapping[str, list[str]]
    val: RawScores | None
    test: RawScores
    train: Split | None = None
    members: Sequence[str] = ()
    combine: str = ""
    classifier: str = ""


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
    table[list(CASE_COLUMNS)] = table[list(CASE_COLUMNS)].map(inert)
    atomic_write_text(path, table.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
    return path


def thresholds_of(run: FinishedRun, findings: Sequence[str]) -> Floats:
    """(K,) operating point of each finding of a finished run; NaN for none."""
    return np.array([run.manifest["thresholds"][finding] for finding in findings], dtype=np.float64)


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

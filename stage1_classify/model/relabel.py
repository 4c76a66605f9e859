"""Self-training: the probabilities of a finished classifier replace uncertain training labels."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cxr.arrays import Bools, Floats
from cxr.config import UserError
from cxr.labels import nearest
from cxr.runs.run_folder import atomic_write_text
from cxr.spreadsheet_cells import inert, original
from cxr.tables import Dataset
from stage1_classify.data.targets import UNCERTAIN, policies
from stage1_classify.model.loading import Trained, load_trained
from stage1_classify.settings.classifier import LabelSettings

TABLE = "relabelled.csv"
"""The replaced labels, one per row: image_id, finding, probability."""

log = logging.getLogger("raybox")


def relabel(
    settings: LabelSettings,
    data: Dataset,
    findings: Sequence[str],
    *,
    run_dir: Path,
    device: torch.device | str = "cpu",
) -> Floats:
    """The teacher's probabilities for the uncertain labels of findings with the policy self_train.

    The teacher predicts each image by itself. Writes `relabelled.csv` into `run_dir`, or reads it if it exists, so that
    a resumed run keeps its targets. With several processes the first one must call this before the others.

    Returns:
        (N, K) in the order of `data` and `findings`, in [0, 1]; NaN where no label is replaced.

    Raises:
        UserError: the teacher is not a finished run or lacks a finding, or the table belongs to other labels.
    """
    by_finding = policies(findings, settings)
    self_trained = np.array([by_finding[finding] == "self_train" for finding in findings])
    replaced = self_trained & (data.labels[list(findings)].to_numpy() == UNCERTAIN)
    path = run_dir / TABLE
    if not path.is_file():
        assert settings.teacher is not None
        rows, columns = np.nonzero(replaced)
        table = pd.DataFrame(
            {
                "image_id": data.images["image_id"].to_numpy()[rows],
                "finding": np.array(findings, dtype=object)[columns],
                "probability": _probabilities(settings.teacher, data, findings, replaced, device=device),
            }
        )
        atomic_write_text(path, table.map(inert).to_csv(index=False))
        log.info("self-training: %d uncertain labels replaced, see %s", len(table), TABLE)
    probabilities = np.full(replaced.shape, np.nan)
    probabilities[replaced] = _read(path, data, findings, replaced)
    return probabilities


def _probabilities(
    teacher: Path, data: Dataset, findings: Sequence[str], replaced: Bools, *, device: torch.device | str
) -> Floats:
    """One probability for each True of `replaced`, row by row. Only images with such labels are predicted."""
    trained = load_trained(teacher)
    needed = np.flatnonzero(replaced.any(axis=0)).tolist()
    columns = _columns_of(trained, teacher, [findings[column] for column in needed])
    rows = np.flatnonzero(replaced.any(axis=1))
    if not len(rows):
        return np.zeros(0)
    probabilities = np.full((len(rows), len(findings)), np.nan)
    part = data.select(data.images["image_id"].iloc[rows])
    probabilities[:, needed] = trained.predict(part, device=device, progress=True)[:, columns]
    return probabilities[replaced[rows]]


def _columns_of(trained: Trained, teacher: Path, needed: Sequence[str]) -> list[int]:
    """The teacher's column of each needed finding."""
    there = trained.settings.findings
    problems = [
        f"labels.teacher: {teacher} does not know {finding!r}{nearest(finding, there)}, only {', '.join(there)}; "
        "give another teacher, or the finding another policy in labels.uncertain_by_finding"
        for finding in needed
        if finding not in there
    ]
    if problems:
        raise UserError(problems)
    return [there.index(finding) for finding in needed]


def _read(path: Path, data: Dataset, findings: Sequence[str], replaced: Bools) -> Floats:
    """The table's probabilities, after checking that it belongs to exactly these labels."""
    rows, columns = np.nonzero(replaced)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False).map(original)
        probabilities = np.array([float(text) for text in table["probability"]])
        same = (
            table["image_id"].tolist() == data.images["image_id"].iloc[rows].tolist()
            and table["finding"].tolist() == [findings[column] for column in columns.tolist()]
            and ((probabilities >= 0) & (probabilities <= 1)).all()
        )
    except (ValueError, KeyError):
        same = False
    if not same:
        raise UserError(
            f"self-training: {path} is not a table of this run's {len(rows)} uncertain labels; "
            "remove it to create it again"
        )
    return probabilities

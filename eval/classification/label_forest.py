"""How well one finding follows from the other labels, without any image: a random forest on the label table.

A classifier of images that is no better than this may have learned which findings occur together. The forest is
Breiman 2001 (scikit-learn); the rarer side of the training rows is oversampled by SMOTE (Chawla et al. 2002,
imbalanced-learn). Every row is predicted by a forest that has not seen its patient.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedGroupKFold

from cxr.arrays import Floats
from cxr.config import Settings, UserError
from cxr.datasets import AnyData
from cxr.datasets.own_names import read_data
from cxr.labels import NO_FINDING, check_findings, load_terminology
from cxr.splits import patients_of
from cxr.tables import NOT_ASKED, Dataset

SMOTE_NEIGHBOURS = 5

log = logging.getLogger("raybox")


class LabelForestSettings(Settings):
    """Settings of `eval/run.py label-forest`."""

    data: AnyData
    """The data set with the labels. Its images are not read: `check_files: none` also allows that there are none."""
    label_file: Path | None = None
    """Own findings (docs/data.md). None: the built-in ones."""
    finding: str
    """The finding to predict."""
    predictors: list[str] | None = None
    """The labels to predict it from. None: all others but No Finding, which says that the rest are absent."""
    uncertain: Literal["zeros", "ones"] = "zeros"
    """What an uncertain label counts as, as a predictor too. Labels that are not mentioned are negative."""
    num_trees: PositiveInt = 300
    smote: bool = True
    """Oversample the rarer side of the training rows by SMOTE."""
    num_folds: int = Field(5, ge=2)
    """Parts of the cross-validation. No patient is in two."""
    num_resamples: PositiveInt = 1000
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of folds, SMOTE, forests and bootstrap."""


@dataclass(frozen=True)
class LabelForest:
    """What the forests of all folds found.

    labels, probabilities: (N,) 1 or 0, and out of fold in [0, 1]. patients: (N,). importances: (folds, P) of
    `predictors`, each row sums to 1. num_left_out: images whose data set does not label all of these findings.
    """

    finding: str
    predictors: tuple[str, ...]
    labels: Floats
    probabilities: Floats
    patients: tuple[str, ...]
    importances: Floats
    num_left_out: int
    data: Dataset


def label_forest(settings: LabelForestSettings) -> LabelForest:
    """Read the label table and predict the finding of every row.

    Raises:
        UserError: unknown names, no predictor, or too few positives or negatives for the folds.
    """
    data = read_data(settings.data, load_terminology(settings.label_file))
    others = [name for name in data.findings if name not in (settings.finding, NO_FINDING)]
    predictors = others if settings.predictors is None else settings.predictors
    check_findings([settings.finding], data.findings, source="finding")
    check_findings(predictors, others, source="predictors")
    if not predictors:
        raise UserError(f"predictors: {data.name} labels nothing but {settings.finding}; give a set with more findings")
    used = data.labels[[settings.finding, *predictors]].to_numpy(dtype=np.float64)
    asked = (used != NOT_ASKED).all(axis=1)
    table = _values(used[asked], settings)
    patients = patients_of(data)[asked].tolist()
    labels, rows = table[:, 0], table[:, 1:]
    _check_counts(labels, patients, settings)
    probabilities, importances = _cross_validated(rows, labels, patients, settings)
    return LabelForest(
        settings.finding,
        tuple(predictors),
        labels,
        probabilities,
        tuple(patients),
        importances,
        int((~asked).sum()),
        data,
    )


def _values(labels: Floats, settings: LabelForestSettings) -> Floats:
    """(N, K) 1 or 0 for labels of 1, 0, -1 and NaN."""
    return np.isin(labels, [1.0] if settings.uncertain == "zeros" else [1.0, -1.0]).astype(np.float64)


def _check_counts(labels: Floats, patients: Sequence[str], settings: LabelForestSettings) -> None:
    """UserError unless each fold and the rest of it can have two patients of both sides."""
    needed = 2 * settings.num_folds
    for side, value in (("positive", 1), ("negative", 0)):
        found = len({patient for patient, label in zip(patients, labels, strict=True) if label == value})
        if found < needed:
            raise UserError(
                f"finding: {found} patients are {side} for {settings.finding}, expected at least {needed} for "
                f"{settings.num_folds} folds; lower num_folds or give more data"
            )


def _cross_validated(
    rows: Floats, labels: Floats, patients: Sequence[str], settings: LabelForestSettings
) -> tuple[Floats, Floats]:
    """(N,) out-of-fold probabilities and (folds, P) importances."""
    folds = StratifiedGroupKFold(settings.num_folds, shuffle=True, random_state=settings.seed)
    probabilities, importances = np.zeros(len(labels)), []
    for train, held_out in folds.split(rows, labels, patients):
        forest = _fitted(rows[train], labels[train], settings)
        probabilities[held_out] = forest.predict_proba(rows[held_out])[:, list(forest.classes_).index(1.0)]
        importances.append(forest.feature_importances_)
        log.info("label forest: %d of %d folds done", len(importances), settings.num_folds)
    return probabilities, np.stack(importances)


def _fitted(rows: Floats, labels: Floats, settings: LabelForestSettings) -> RandomForestClassifier:
    if settings.smote:
        rows, labels = _oversampled(rows, labels, settings.seed)
    return RandomForestClassifier(settings.num_trees, random_state=settings.seed).fit(rows, labels)


def _oversampled(rows: Floats, labels: Floats, seed: int) -> tuple[Floats, Floats]:
    """Rows and labels with as many of the rarer side as of the other, by SMOTE."""
    try:
        from imblearn.over_sampling import SMOTE
    except ImportError:
        raise UserError(
            "smote: needs the package imbalanced-learn; install the extra audit, or set smote=false"
        ) from None
    rarer = int(min((labels == 0).sum(), (labels == 1).sum()))
    oversampler = SMOTE(random_state=seed, k_neighbors=min(SMOTE_NEIGHBOURS, rarer - 1))
    more_rows, more_labels = oversampler.fit_resample(rows, labels)
    return more_rows, more_labels

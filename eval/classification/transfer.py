"""Train on one data set, test on all: AUROC of several classifiers on several labelled data sets.

A settings file names the folder of each cell: a stage 1 run for a classifier on its own test split, and a folder of
``stage1_classify/predict.py RUN CONFIG`` for one on another data set::

    classifiers:
      chexpert: {chexpert: runs/chexpert/stage1, ours: runs/chexpert/on_ours}
      ours: {chexpert: runs/ours/on_chexpert, ours: runs/ours/stage1}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import Field, PositiveInt

from cxr.arrays import Floats
from cxr.config import Settings, UserError
from cxr.runs.provenance import sha256_of
from cxr.runs.run_folder import FinishedRun, open_run
from eval.classification.prediction_file import Cases, read_cases, read_predictions
from eval.classification.weighted import weighted_auroc
from eval.stats.bootstrap import Estimate, resample_counts
from eval.stats.intervals import p_of_difference
from eval.stats.measures import Bootstrapped, Measure, bootstrap, difference
from eval.stats.paired import holm

OWN, ELSEWHERE = "stage1", "classifier_evaluation"
"""Stages of the folders: a classifier on its own test split, and on another data set."""


class TransferSettings(Settings):
    """Predictions of several classifiers on several data sets."""

    classifiers: dict[str, dict[str, Path]] = Field(min_length=1)
    """Classifier -> data set -> folder with its predictions. A classifier that bears the name of a data set was trained
    on it."""
    min_positives: PositiveInt = 5
    """Findings with fewer positives in a data set are left out of the mean."""
    num_resamples: PositiveInt = 1000
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the bootstrap."""


@dataclass(frozen=True)
class Cell:
    """A classifier on a data set. findings: those that it was evaluated on. probabilities: (N, K) of `cases`."""

    classifier: str
    data_set: str
    findings: tuple[str, ...]
    cases: Cases
    probabilities: Floats
    synthetic: bool

    def auroc(
        self, findings: Sequence[str], options: TransferSettings, *, rows: Sequence[int] | None = None
    ) -> Bootstrapped:
        """AUROC of these findings on all cases, or on those of `rows`, with resamples of patients."""
        chosen = range(len(self.cases.ids)) if rows is None else rows
        labels, probabilities = (
            self.part(table, findings, chosen) for table in (self.cases.labels, self.probabilities)
        )
        patients = [self.cases.patients[row] for row in chosen]
        counts = resample_counts(patients, num_resamples=options.num_resamples, seed=options.seed)
        measure = Measure("auroc", tuple(findings), lambda part: weighted_auroc(labels, probabilities, part))
        return bootstrap(measure, counts)

    def part(self, table: Floats, findings: Sequence[str], rows: Sequence[int]) -> Floats:
        """Some rows and columns of a table (N, K) of this cell."""
        return table[list(rows)][:, [self.findings.index(name) for name in findings]]


@dataclass(frozen=True)
class Gap:
    """The classifier of a data set minus one that was trained elsewhere: difference of their mean AUROC.

    num_cases: cases that both predicted. gap: None without such a case. p_holm: two-sided p-value, corrected (Holm) for
    all differences of the matrix; NaN without a case.
    """

    data_set: str
    other: str
    num_cases: int
    gap: Estimate | None = None
    p_holm: float = float("nan")


@dataclass(frozen=True)
class Transfer:
    """The matrix. common: findings that count in every mean. auroc: (classifier, data set) -> figures of all findings
    of the cell. means: the same of the common findings."""

    classifiers: tuple[str, ...]
    data_sets: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]
    common: tuple[str, ...]
    auroc: Mapping[tuple[str, str], Bootstrapped]
    means: Mapping[tuple[str, str], Bootstrapped]
    gaps: tuple[Gap, ...]


def transfer(settings: TransferSettings) -> Transfer:
    """Read all cells and compute the figures.

    Raises:
        UserError: a folder without predictions, cells of one row that come from several classifiers, or no finding
            that all cells can score.
    """
    cells = {
        (row, column): _read_cell(row, column, path)
        for row, paths in settings.classifiers.items()
        for column, path in paths.items()
    }
    _check_rows(settings)
    common = _common_findings(cells, settings.min_positives)
    gaps = [gap for column in settings.classifiers for gap in _gaps(cells, column, common, settings)]
    corrected = holm([gap.p_holm for gap in gaps])
    return Transfer(
        tuple(settings.classifiers),
        tuple(dict.fromkeys(column for _, column in cells)),
        cells,
        common,
        {key: cell.auroc(cell.findings, settings) for key, cell in cells.items()},
        {key: cell.auroc(common, settings) for key, cell in cells.items()},
        tuple(replace(gap, p_holm=p) for gap, p in zip(gaps, corrected, strict=True)),
    )


def _read_cell(classifier: str, data_set: str, path: Path) -> Cell:
    run = open_run(path)
    if run.stage not in (OWN, ELSEWHERE):
        raise UserError(
            f"classifiers.{classifier}.{data_set}: {path} is a run of {run.stage}; give a stage 1 run, or a folder of "
            "stage1_classify/predict.py RUN CONFIG"
        )
    findings = tuple(run.manifest["findings"])
    table = read_predictions(run.output("predictions"), findings)
    test = table[table["split"] == "test"]
    probabilities = test[list(findings)].to_numpy(dtype=np.float64)
    synthetic = bool(run.manifest.get("synthetic"))
    return Cell(classifier, data_set, findings, read_cases(table, findings), probabilities, synthetic)


def _check_rows(settings: TransferSettings) -> None:
    """Raise a UserError where the folders of a row are of several classifiers."""
    problems = []
    for classifier, paths in settings.classifiers.items():
        known = {column: _classifier_of(open_run(path)) for column, path in paths.items()}
        first = next(iter(known))
        problems += [
            f"classifiers.{classifier}: {column} ({paths[column]}) is of another classifier than {first} "
            f"({paths[first]}); give the folders of one classifier in each row"
            for column, own in known.items()
            if own != known[first]
        ]
    if problems:
        raise UserError(problems)


def _classifier_of(run: FinishedRun) -> str:
    """The hash of the classifier's manifest."""
    if run.stage == OWN:
        return sha256_of(run.dir / "manifest.json")
    return str(run.manifest["inputs"]["classifier"]["sha256"])


def _common_findings(cells: Mapping[tuple[str, str], Cell], min_positives: int) -> tuple[str, ...]:
    """The findings that every cell has, with enough positives and with negatives; in the order of the first cell."""
    scored = {key: _scored_findings(cell, min_positives) for key, cell in cells.items()}
    first, *others = scored.values()
    common = tuple(name for name in first if all(name in own for own in others))
    if not common:
        lines = [f"{row} on {column}: {', '.join(names) or 'no finding'}" for (row, column), names in scored.items()]
        needs = f"findings: none has {min_positives} positives and a negative in all cells; lower min_positives"
        raise UserError([*lines, needs])
    return common


def _scored_findings(cell: Cell, min_positives: int) -> list[str]:
    enough = cell.cases.enough(min_positives) & (cell.cases.labels == 0).any(axis=0)
    return [name for name, counts in zip(cell.findings, enough, strict=True) if counts]


def _gaps(
    cells: Mapping[tuple[str, str], Cell], column: str, common: Sequence[str], settings: TransferSettings
) -> list[Gap]:
    """The classifier of a data set against each of the others, on the cases that both predicted; p-values are not
    corrected yet."""
    own = cells.get((column, column))
    others = [cell for (row, name), cell in cells.items() if name == column and row != column]
    return [] if own is None else [_gap(own, other, common, settings) for other in others]


def _gap(own: Cell, other: Cell, common: Sequence[str], settings: TransferSettings) -> Gap:
    place = {image_id: row for row, image_id in enumerate(other.cases.ids)}
    pairs = [(row, place[image_id]) for row, image_id in enumerate(own.cases.ids) if image_id in place]
    if not pairs:
        return Gap(own.data_set, other.classifier, 0)
    rows, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    _check_labels(own, other, rows, theirs)
    one, two = own.auroc(common, settings, rows=rows), other.auroc(common, settings, rows=theirs)
    p = p_of_difference(one.of(), two.of())
    return Gap(own.data_set, other.classifier, len(pairs), difference(one, two), p)


def _check_labels(own: Cell, other: Cell, rows: Sequence[int], theirs: Sequence[int]) -> None:
    shared = [name for name in own.findings if name in other.findings]
    labels, other_labels = (
        cell.part(cell.cases.labels, shared, chosen) for cell, chosen in ((own, rows), (other, theirs))
    )
    if not np.array_equal(labels, other_labels, equal_nan=True):
        raise UserError(
            f"{own.data_set}: {own.classifier} and {other.classifier} were evaluated against other labels of the same "
            "images; evaluate both with one settings file"
        )

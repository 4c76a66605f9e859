"""F1 of a classifier next to that of radiologists, whose figures the user gives in a file.

The file has the columns ``finding`` and ``f1``, for instance from a publication::

    finding,f1
    Cardiomegaly,.678
    Edema,.712
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr.cli import add_encoding_option
from cxr.config import UserError
from cxr.datasets.text_cells import numbers
from cxr.datasets.text_files import read_text_table
from cxr.labels import check_findings, slug
from cxr.metrics import Metrics
from cxr.runs.run_folder import FinishedRun, atomic_write_text, open_run, refuse_run_folder
from cxr.runs.whole_files import next_to
from eval.classification.metrics import classification_metrics
from eval.classification.prediction_file import read_cases, read_predictions
from eval.report.blocks import Block, Figure, Table, Verdict, write_report
from eval.report.charts import Bar, plot_bars
from eval.report.format import Cell, figure_text, listed
from eval.report.text_tables import print_tables
from eval.stats.measures import with_ends

CHART = "pictures/f1.png"
MEAN = "mean"


@dataclass(frozen=True)
class Comparison:
    """A classifier and radiologists. radiologists: finding -> F1. figures: those of the classifier for these findings,
    as `classification_metrics` names them, on the test cases of the run."""

    radiologists: Mapping[str, float]
    figures: Metrics
    cases: str
    synthetic: bool

    def verdict(self, name: str) -> str:
        """Whether the interval of the classifier's F1 lies above, below or around the radiologists' figure."""
        key = MEAN if name == MEAN else slug(name)
        value, low, high = with_ends(self.figures, f"f1/{key}")
        theirs = self.of_radiologists(name)
        if value is None or low is None or high is None:
            return "no figure: no positive or no negative case"
        return "better" if low > theirs else "worse" if high < theirs else "no significant difference"

    def of_radiologists(self, name: str) -> float:
        """Their F1 of a finding, or the mean."""
        return float(np.mean(list(self.radiologists.values()))) if name == MEAN else self.radiologists[name]


def compare_with_radiologists(run: FinishedRun, table: Path, *, encoding: str = "utf-8") -> Comparison:
    """Compare a classifier with the figures of a table. encoding: of the table, as Python calls it.

    Raises:
        UserError: not a classifier with decisions for these findings, or the table is not one of F1.
    """
    if "predictions" not in run.manifest["outputs"]:
        raise UserError(f"run {run.dir}: is a run of {run.stage}; give one of stage 1, or of predict.py RUN CONFIG")
    radiologists = read_f1(table, encoding=encoding)
    names = list(radiologists)
    check_findings(names, run.manifest["findings"], source=f"{table}, finding")
    predictions = read_predictions(run.output("predictions"))
    test = predictions[predictions["split"] == "test"]
    calls = test[[f"{name} call" for name in names]].to_numpy(dtype=np.float64)
    undecided = [name for name, column in zip(names, calls.T, strict=True) if np.isnan(column).any()]
    if undecided:
        raise UserError(f"{table}: the classifier has no threshold for {', '.join(undecided)}; remove these rows")
    cases = read_cases(predictions, names)
    thresholds = np.full(len(names), 0.5)
    figures = classification_metrics(
        cases.labels, calls, findings=names, thresholds=thresholds, groups=list(cases.patients)
    )
    decided = {name: value for name, value in figures.items() if name.startswith(("f1/", "positives/"))}
    described = cases.describe(names, min_positives=1)
    return Comparison(radiologists, decided, described, bool(run.manifest.get("synthetic")))


def read_f1(path: Path, *, encoding: str = "utf-8") -> dict[str, float]:
    """Finding -> F1 in [0, 1], in the order of the file.

    Raises:
        UserError: no such table, a finding twice, or a figure that is no F1.
    """
    table = read_text_table(path, required=["finding", "f1"], encoding=encoding, encoding_key="--encoding ")
    names, values = table["finding"].str.strip(), numbers(table["f1"])
    problems = [
        f"{path}: F1 of {name} is {text!r}, expected a number from 0 to 1; correct it"
        for name, text, value in zip(names, table["f1"], values, strict=True)
        if not 0 <= value <= 1
    ]
    problems += [f"{path}: {name} has two rows; remove one" for name in names[names.duplicated()].unique()]
    if problems or table.empty:
        raise UserError(problems or [f"{path}: no row; give columns finding and f1"])
    return dict(zip(names, values.tolist(), strict=True))


def add_radiologists_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command `radiologists`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="stage 1 run, or folder of predict.py RUN CONFIG")
    parser.add_argument(
        "--figures", type=Path, required=True, metavar="FILE", help="CSV table with the columns finding and f1"
    )
    add_encoding_option(parser)
    parser.add_argument("--out", type=Path, help="folder of the report (default: RUN_radiologists)")


def report_radiologists(given: argparse.Namespace) -> Path:
    """Print the table, write `metrics.json` and `report.html`; returns the page.

    Raises:
        UserError: see `compare_with_radiologists`, or the folder is that of a run.
    """
    out: Path = given.out or next_to(given.run, "_radiologists")
    refuse_run_folder(out)
    found = compare_with_radiologists(open_run(given.run), given.figures, encoding=given.encoding)
    table = comparison_table(found)
    print_tables([table])
    theirs = {f"radiologists/f1/{slug(name)}": value for name, value in found.radiologists.items()}
    theirs["radiologists/f1/mean"] = found.of_radiologists(MEAN)
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    atomic_write_text(out / "metrics.json", json.dumps(found.figures | theirs, indent=1) + "\n")
    blocks: list[Block] = [_chart(found, out), Verdict("Result", _sentence(found)), table]
    lead = f"F1 of {given.run} at its thresholds, and of radiologists as {given.figures.name} gives it. {found.cases}"
    return write_report(
        out, title="F1 of the classifier and of radiologists", lead=lead, blocks=blocks, synthetic=found.synthetic
    )


def comparison_table(found: Comparison) -> Table:
    """One row per finding, then the mean over them."""
    rows: list[list[Cell]] = []
    for name in [*found.radiologists, MEAN]:
        key = MEAN if name == MEAN else slug(name)
        positives = None if name == MEAN else int(found.figures[f"positives/{key}"] or 0)
        ours, theirs = figure_text(found.figures, f"f1/{key}"), found.of_radiologists(name)
        rows.append([name, positives, ours, theirs, found.verdict(name)])
    columns = ["finding", "pos.", "classifier's F1 [95 %]", "radiologists' F1", "classifier"]
    note = (
        "The radiologists' figures are taken as exact: where they come from few cases, or from other images, a "
        "difference means less."
    )
    return Table("F1", columns, rows, note, highlight=len(rows) - 1)


def _chart(found: Comparison, out: Path) -> Figure:
    bars = []
    for name in [*found.radiologists, MEAN]:
        key = MEAN if name == MEAN else slug(name)
        bars.append(Bar(name, *with_ends(found.figures, f"f1/{key}"), "marked"))
        bars.append(Bar(f"{name}, radiologists", found.of_radiologists(name), kind="muted"))
    plot_bars(out / CHART, bars, label="F1")
    return Figure("F1", CHART, "Dark: the classifier, with 95 % intervals. Grey: radiologists.")


def _sentence(found: Comparison) -> str:
    by_verdict: dict[str, list[str]] = {}
    for name in found.radiologists:
        by_verdict.setdefault(found.verdict(name), []).append(name)
    parts = [f"{verdict}: {listed(names)}" for verdict, names in by_verdict.items()]
    return f"The classifier against radiologists: {'; '.join(parts)}. Mean: {found.verdict(MEAN)}."

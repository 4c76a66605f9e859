"""The report of `eval/run.py transfer`: a heat map, tables, and all figures as JSON."""

import json
from pathlib import Path

import numpy as np

from cxr.config import load_config
from cxr.labels import class_slugs
from cxr.runs.run_folder import atomic_write_text, refuse_run_folder
from eval.classification.transfer import Transfer, TransferSettings, transfer
from eval.report.blocks import Block, Figure, Table, Verdict, write_report
from eval.report.charts import plot_heat_map
from eval.report.format import Cell, estimate_text, gap_text, listed, short_interval
from eval.report.text_tables import print_tables
from eval.stats.measures import bootstrap_figures, finite_or_none, interval_figures

PICTURE = "pictures/transfer.png"

Figures = dict[str, float | None]


def transfer_report(config: Path, *, out: Path | None = None) -> Path:
    """Print the matrix, write `metrics.json` and `report.html`; returns the page.

    out: default: the folder next to `config` with its name.

    Raises:
        UserError: see `transfer`, or `out` is the folder of a run.
    """
    out = config.with_suffix("") if out is None else out
    refuse_run_folder(out)
    result = transfer(load_config(TransferSettings, config))
    tables = [mean_table(result), *([gap_table(result)] if result.gaps else []), finding_table(result)]
    print_tables(tables[:1])
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    atomic_write_text(out / "metrics.json", json.dumps(transfer_figures(result), indent=1) + "\n")
    plot_heat_map(out / PICTURE, mean_matrix(result), (result.classifiers, result.data_sets), limit=0.5, centre=0.5)
    note = "Rows: classifiers. Columns: data sets. 0.5 (white) is chance, 1 is perfect; grey: not given."
    blocks: list[Block] = [Figure("Mean AUROC", PICTURE, note), Verdict("Result", transfer_verdict(result)), *tables]
    lead = f"Classifiers trained on one data set and tested on all. Mean over {listed(result.common)}."
    synthetic = any(cell.synthetic for cell in result.cells.values())
    return write_report(out, title="Transfer between data sets", lead=lead, blocks=blocks, synthetic=synthetic)


def mean_matrix(result: Transfer) -> np.ndarray:
    """(classifiers, data sets) mean AUROC over the common findings; NaN where no cell is given."""
    rows = [[_mean(result, row, column) for column in result.data_sets] for row in result.classifiers]
    return np.array(rows, dtype=np.float64)


def _mean(result: Transfer, row: str, column: str) -> float:
    cell = result.means.get((row, column))
    return float("nan") if cell is None else cell.mean


def mean_table(result: Transfer) -> Table:
    """One row per classifier, one column per data set."""
    rows: list[list[Cell]] = [
        [row, *(_estimate(result, row, column) for column in result.data_sets)] for row in result.classifiers
    ]
    note = (
        f"Mean AUROC over {listed(result.common)}, which all classifiers know and all data sets label. 95 % bootstrap "
        "intervals over patients."
    )
    return Table("Mean AUROC", ["trained on", *result.data_sets], rows, note)


def _estimate(result: Transfer, row: str, column: str) -> str | None:
    cell = result.means.get((row, column))
    return None if cell is None else estimate_text(cell.estimate())


def gap_table(result: Transfer) -> Table:
    """The classifier of each data set minus the others."""
    rows: list[list[Cell]] = [
        [
            gap.data_set,
            gap.other,
            gap.num_cases,
            "no common image" if gap.gap is None else gap_text(gap.gap),
            gap.p_holm,
        ]
        for gap in result.gaps
    ]
    note = (
        "Mean AUROC of the classifier that was trained on the data set, minus that of the other one, on the images "
        "that both predicted, with the same resamples. p: two-sided, corrected for all rows (Holm)."
    )
    columns = ["tested on", "other classifier", "cases", "own minus other [95 %]", "p"]
    return Table("Own classifier against the others", columns, rows, note)


def finding_table(result: Transfer) -> Table:
    """One row per classifier and data set, with the AUROC of each finding that any cell has."""
    findings = list(dict.fromkeys(name for cell in result.cells.values() for name in cell.findings))
    rows: list[list[Cell]] = []
    for (row, column), scores in result.auroc.items():
        known = [estimate_text(scores.estimate(name)) if name in scores.findings else None for name in findings]
        rows.append([f"{row} on {column}", len(result.cells[row, column].cases.ids), *known])
    note = f"In the mean: {listed(result.common)}."
    return Table("AUROC per finding", ["classifier on data set", "cases", *findings], rows, note)


def transfer_verdict(result: Transfer) -> str:
    """Each classifier on its own data set and on the others."""
    sentences = []
    for row in result.classifiers:
        own = result.means.get((row, row))
        others = [scores.mean for (name, column), scores in result.means.items() if name == row and column != row]
        if own is not None and others:
            estimate = own.estimate()
            here = short_interval(estimate.value, estimate.low, estimate.high)
            sentences.append(f"{row}: mean AUROC {here} at home, {np.mean(others):.2f} on average elsewhere.")
    return " ".join(sentences) or f"Mean AUROC over {listed(result.common)}."


def transfer_figures(result: Transfer) -> Figures:
    """`auroc/<classifier>/<data set>`, also with `/<finding>`, and `own_minus/<classifier>/<data set>`."""
    names = class_slugs([*result.classifiers, *(name for name in result.data_sets if name not in result.classifiers)])
    figures: dict[str, float] = {}
    for (row, column), scores in result.auroc.items():
        key = f"auroc/{names[row]}/{names[column]}"
        mean = result.means[row, column].estimate()
        figures |= bootstrap_figures(key, scores, with_ends=True) | interval_figures(key, mean.value, mean)
    for gap in result.gaps:
        if gap.gap is not None:
            key = f"own_minus/{names[gap.other]}/{names[gap.data_set]}"
            figures |= interval_figures(key, gap.gap.value, gap.gap) | {f"{key}/p_holm": gap.p_holm}
    return finite_or_none(figures)

"""The report of `eval/run.py label-forest`: importances and ROC as pictures, AUROC with its interval."""

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_curve

from cxr.config import load_config
from cxr.labels import class_slugs, slug
from cxr.metrics import Metrics
from cxr.runs.run_folder import atomic_write_text, refuse_run_folder
from eval.classification.label_forest import LabelForest, LabelForestSettings, label_forest
from eval.classification.metrics import classification_metrics
from eval.report.blocks import Block, Figure, Table, Verdict, write_report
from eval.report.charts import Bar, plot_bars, plot_curves
from eval.report.format import Cell, figure_text, listed, short_interval
from eval.report.text_tables import print_tables
from eval.stats.measures import with_ends

IMPORTANCES, ROC = "pictures/importances.png", "pictures/roc.png"


def add_label_forest_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file: data set, finding, forest")
    where = "folder (default: runs/<experiment>/<name of CONFIG>)"
    parser.add_argument("--out", type=Path, help=where)
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="change a setting")


def report_label_forest(given: argparse.Namespace) -> Path:
    """Print the AUROC, write `metrics.json` and `report.html`; returns the page.

    Raises:
        UserError: see `label_forest`, or the folder is that of a run.
    """
    out: Path = given.out or Path("runs") / given.config.resolve().parent.name / given.config.stem
    refuse_run_folder(out)
    settings = load_config(LabelForestSettings, given.config, given.set)
    forest = label_forest(settings)
    figures = forest_figures(forest, settings)
    table = importance_table(forest)
    print_tables([score_table(forest, figures)])
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    atomic_write_text(out / "metrics.json", json.dumps(figures, indent=1) + "\n")
    blocks: list[Block] = [*_pictures(forest, out), _verdict(forest, figures), score_table(forest, figures), table]
    lead = (
        f"A random forest of {settings.num_trees} trees predicts {forest.finding} from "
        f"{listed(forest.predictors)}, without the images of {forest.data.name}. "
        f"{settings.num_folds} folds by patient"
        f"{', the rarer side of the training rows oversampled by SMOTE' if settings.smote else ''}."
    )
    title = f"{forest.finding} from the other labels"
    return write_report(out, title=title, lead=lead, blocks=blocks, synthetic=forest.data.synthetic)


def forest_figures(forest: LabelForest, settings: LabelForestSettings) -> Metrics:
    """`auroc/<finding>` and the other figures of `classification_metrics` at .5, and `importance/<predictor>`."""
    figures = classification_metrics(
        forest.labels[:, None],
        forest.probabilities[:, None],
        findings=[forest.finding],
        thresholds=np.array([0.5]),
        groups=forest.patients,
        num_resamples=settings.num_resamples,
        seed=settings.seed,
    )
    names = class_slugs(forest.predictors)
    means = forest.importances.mean(axis=0).tolist()
    pairs = zip(forest.predictors, means, strict=True)
    return figures | {f"importance/{names[name]}": value for name, value in pairs}


def score_table(forest: LabelForest, figures: Metrics) -> Table:
    """AUROC and decisions at .5, out of fold."""
    name = slug(forest.finding)
    columns = ("auroc", "auprc", "f1", "sensitivity", "specificity", "precision")
    cells: list[Cell] = [len(forest.labels), int(forest.labels.sum())]
    cells += [figure_text(figures, f"{column}/{name}") for column in columns]
    heads = ["images", "positive", "AUROC [95 %]", "AUPRC", "F1", "sens.", "spec.", "precision"]
    note = "Out of fold; decisions at .5; intervals over patients."
    if forest.num_left_out:
        note += f" {forest.num_left_out} images of data sets that do not label all of these findings are left out."
    return Table("Figures", heads, [cells], note)


def importance_bars(forest: LabelForest) -> list[Bar]:
    """Predictors from the highest mean importance down: the mean, the lowest and the highest of the folds."""
    means = forest.importances.mean(axis=0)
    columns = zip(forest.predictors, means, forest.importances.min(axis=0), forest.importances.max(axis=0), strict=True)
    bars = [Bar(name, float(mean), float(low), float(high)) for name, mean, low, high in columns]
    return [bars[column] for column in np.argsort(-means, kind="stable").tolist()]


def importance_table(forest: LabelForest) -> Table:
    """The figures of `importance_bars`."""
    rows: list[list[Cell]] = [[bar.name, bar.value, bar.low, bar.high] for bar in importance_bars(forest)]
    note = "Share of the decrease in Gini impurity; all sum to 1. Labels that occur together share it."
    return Table("Importances", ["predictor", "mean", "lowest fold", "highest fold"], rows, note)


def _pictures(forest: LabelForest, out: Path) -> list[Block]:
    plot_bars(out / IMPORTANCES, importance_bars(forest), label="importance")
    false, found, _ = roc_curve(forest.labels, forest.probabilities)
    curves = {forest.finding: (false.tolist(), found.tolist()), "guessing": ([0.0, 1.0], [0.0, 1.0])}
    plot_curves(out / ROC, curves, labels=("1 - specificity", "sensitivity"), y_range=(0, 1))
    return [
        Figure("Importances", IMPORTANCES, "Bars are means over the folds, lines their lowest and highest."),
        Figure("ROC", ROC, "Of the out-of-fold probabilities of all images."),
    ]


def _verdict(forest: LabelForest, figures: Metrics) -> Verdict:
    value, low, high = with_ends(figures, f"auroc/{slug(forest.finding)}")
    assert value is not None, "both sides are there"
    best = importance_bars(forest)[0].name
    text = f"The other labels alone predict {forest.finding} with AUROC {short_interval(value, low, high)}"
    return Verdict("Result", f"{text}, {best} first. A classifier of images should be better than that.")

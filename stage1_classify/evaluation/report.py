"""The report of stage 1, single classifier or ensemble: the order of its blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxr.splits import patients_of
from cxr.tables import Dataset
from cxr.tracking import read_log
from eval.classification.audit import audit_blocks
from eval.classification.calibration import Calibration
from eval.classification.degenerate import verdict
from eval.report.blocks import Block, Figure, Table, Text, write_report
from eval.report.charts import plot_curves
from eval.report.format import Cell
from eval.report.pictures import save_png
from stage1_classify.data.batches import Split
from stage1_classify.data.targets import UNCERTAIN, policies
from stage1_classify.evaluation.example_pictures import batch_grid, step_grid
from stage1_classify.evaluation.failures import failure_blocks, worst_failures
from stage1_classify.evaluation.report_tables import (
    calibration_blocks,
    confusion_table,
    operating_table,
    score_table,
    subgroup_blocks,
)
from stage1_classify.evaluation.scored_split import Scored
from stage1_classify.settings.classifier import Stage1Settings


@dataclass(frozen=True)
class SummaryFacts:
    """What the report is made of, beside the settings and the run's ``metrics.jsonl``.

    metrics: of the test split, as of `classification_metrics`. data: the whole data set, all splits.
    val: thresholds and calibration come from it. test: the figures come from it. thresholds: (K,), NaN for none.
    calibration: what made `probabilities` of `raw` in val and test.
    counts: images of each split, by its name. phases: seconds and peak_mib by phase, as in `Run.phases`.
    train: None for an ensemble, which has trained nothing; its `members` are the folders of the runs it is made of,
    and `combine` says how.
    """

    metrics: Mapping[str, float | None]
    data: Dataset
    val: Scored
    test: Scored
    thresholds: npt.NDArray[np.float64]
    calibration: Calibration
    counts: Mapping[str, int] = field(default_factory=dict)
    phases: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    train: Split | None = None
    members: Sequence[str] = ()
    combine: str = ""


def write_summary(run_dir: Path, settings: Stage1Settings, facts: SummaryFacts) -> Path:
    """Write ``report.html`` and its pictures, ``failures.csv`` and ``subgroups.csv``; returns the page's path.

    settings: of the training; for an ensemble those of its first member with the ensemble's own `operating`.
    """
    findings, min_positives = settings.findings, settings.train.min_positives
    failures = worst_failures(facts.test, facts.thresholds, findings)
    blocks = [
        Text("Test split"),
        score_table(findings, facts.metrics, min_positives=min_positives),
        confusion_table(findings, facts.metrics, facts.thresholds),
        operating_table(
            facts.val, facts.test, findings, settings=settings.operating_point, metrics=facts.metrics
        ),
        *calibration_blocks(facts.test, findings, facts.calibration, run_dir),
        *subgroup_blocks(facts.test, settings, facts.thresholds, run_dir),
        Text("Failures"),
        *failure_blocks(facts.test, failures, run_dir),
        *_training_blocks(run_dir, settings, facts.train),
        Text("Data"),
        target_table(settings, facts),
        *audit_blocks(facts.data, findings, run_dir),
        *_making_blocks(run_dir, facts),
    ]
    lead = f"{verdict(facts.metrics, findings, min_positives)}\n\n{describe(settings, facts)}"
    title = "Stage 1: ensemble" if facts.members else "Stage 1: classifier"
    return write_report(run_dir, title=title, lead=lead, blocks=blocks, synthetic=facts.data.synthetic)


def describe(settings: Stage1Settings, facts: SummaryFacts) -> str:
    """Which classifier this is, and on what it was judged, in two or three sentences."""
    backbone = settings.backbone
    start = "trained from scratch"
    if backbone.pretrained or backbone.weights is not None:
        start = "from pretrained weights"
    if settings.init_from is not None:
        start = f"from the weights of {settings.init_from}"
    what = f"{backbone.name}, {settings.head.kind} head, {start}"
    if facts.members:
        what = f"{facts.combine.capitalize()} of {len(facts.members)} runs ({', '.join(facts.members)})"
    size = "{} x {} px".format(*settings.input.size_hw)
    first = facts.test.split.cases.first
    return (
        f"{what}; {size}. Calibration and thresholds come from validation; figures are of the test split "
        f"({len(first.images)} cases of {patients_of(first).nunique()} patients), with 95 % intervals by patient."
    )


def target_table(settings: Stage1Settings, facts: SummaryFacts) -> Table:
    """What each split's targets are, after the policies for uncertain and unmentioned labels; one row a finding."""
    splits = {"val": facts.val.split.targets, "test": facts.test.split.targets}
    columns = ["finding", *splits]
    rows: list[list[Cell]] = [
        [finding, *(_known(targets[:, k]) for targets in splits.values())]
        for k, finding in enumerate(settings.findings)
    ]
    note = (
        "Cases: positive / negative / masked. A masked one counts in no figure, since its label is uncertain or not "
        "mentioned."
    )
    if facts.train is not None:
        columns[1:1] = ["uncertain labels", "train", "soft"]
        by_finding = policies(settings.findings, settings.labels)
        for k, row in enumerate(rows):
            column = facts.train.targets[:, k]
            soft = (column > 0) & (column < 1) | (column == UNCERTAIN)
            row[1:1] = [by_finding[settings.findings[k]], _known(column), int(soft.sum())]
        note += " Only training takes them, by its policy; soft: between 0 and 1, or of the class uncertain."
    return Table("Targets of each split", columns, rows, note)


def _known(targets: npt.NDArray[np.float32]) -> str:
    return f"{(targets == 1).sum()} / {(targets == 0).sum()} / {np.isnan(targets).sum()}"


def _training_blocks(run_dir: Path, settings: Stage1Settings, train: Split | None) -> list[Block]:
    """Curves where something was logged, and pictures where there was a training split."""
    blocks = _curve_figures(run_dir)
    if train is not None:
        blocks += _picture_figures(run_dir, settings, train)
    return [Text("Training"), *blocks] if blocks else []


def _picture_figures(run_dir: Path, settings: Stage1Settings, train: Split) -> list[Block]:
    save_png(run_dir / "pictures" / "steps.png", step_grid(train, settings))
    save_png(run_dir / "pictures" / "batch.png", batch_grid(train, settings))
    steps_note = (
        "A column a picture, a row a step, from the file to the network's input. Of pictures with three channels "
        "augmentation is shown on the first; the others move with it. Normalised ones go from their lowest value "
        "(black) to their highest (white)."
    )
    batch_note = "As the network was given it: sampled, augmented, normalised; with the training targets."
    return [
        Figure("Training pictures after each step", "pictures/steps.png", steps_note),
        Figure("The first training batch", "pictures/batch.png", batch_note),
    ]


def _curve_figures(run_dir: Path) -> list[Block]:
    """Curves of ``metrics.jsonl``; none where nothing was logged."""
    entries = read_log(run_dir)
    epochs = [float(entry["step"]) for entry in entries]
    charts = {
        "Loss": {"training": "train/loss", "validation": "val/loss"},
        "Validation, mean over findings": {"AUROC": "val/auroc", "F1": "val/f1", "AUPRC": "val/auprc"},
        "Learning rate": {"head": "train/learning_rate"},
    }
    blocks: list[Block] = []
    for title, keys in charts.items():
        logged = {
            name: key for name, key in keys.items() if any(entry.get(key) is not None for entry in entries)
        }
        if not logged:
            continue
        curves = {
            name: (epochs, [_plain(entry.get(key)) for entry in entries]) for name, key in logged.items()
        }
        path = f"pictures/{title.split(',')[0].lower().replace(' ', '_')}.png"
        plot_curves(run_dir / path, curves, labels=("epoch", ""), x_ticks="whole")
        blocks.append(Figure(title, path))
    return blocks


def _making_blocks(run_dir: Path, facts: SummaryFacts) -> list[Block]:
    """Images by split, seconds and memory by phase, and how fast training was."""
    images = ", ".join(f"{name} {count}" for name, count in facts.counts.items())
    rows: list[list[Cell]] = [
        [name, round(phase["seconds"], 1), round(phase["peak_mib"])] for name, phase in facts.phases.items()
    ]
    entries = read_log(run_dir)
    speeds = [entry["train/images_per_second"] for entry in entries if "train/images_per_second" in entry]
    note = f"Training took in {np.median(speeds):.1f} images a second (median epoch)." if speeds else ""
    skipped = max((entry.get("train/skipped_steps") or 0 for entry in entries), default=0)  # since the start
    if skipped:
        note += f" {skipped:g} steps overflowed and were skipped."
    blocks: list[Block] = []
    if images:
        blocks.append(Text("Images", f"{images}."))
    if rows or note:
        blocks.append(
            Table("Time and memory", ["phase", "seconds", "peak memory so far in MiB"], rows, note.strip())
        )
    return [Text("Run"), *blocks] if blocks else []


def _plain(value: float | None) -> float:
    return float("nan") if value is None else float(value)

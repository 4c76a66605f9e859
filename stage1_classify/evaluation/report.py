"""The report of stage 1, for a single classifier or an ensemble: its blocks in their order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cxr.arrays import Float32s, Floats
from cxr.labels import slug
from cxr.splits import crossing_patients, patients_of
from cxr.tracking import read_log
from eval.audit.overview import audit_blocks
from eval.classification.calibration import Calibration
from eval.classification.degenerate import verdict
from eval.report.blocks import Block, Figure, PictureRows, Table, Text, Verdict, write_report
from eval.report.charts import Bar, plot_bars, plot_curves
from eval.report.format import Cell
from eval.report.pictures import save_jpeg, save_png
from eval.report.radiographs import radiograph_of
from stage1_classify.data.batches import Split
from stage1_classify.data.targets import UNCERTAIN, policies
from stage1_classify.evaluation.example_pictures import batch_grid, step_grid, typical_cases
from stage1_classify.evaluation.failures import failure_blocks, worst_failures
from stage1_classify.evaluation.predictions import Evidence, Scored
from stage1_classify.evaluation.report_tables import (
    calibration_blocks,
    confusion_table,
    operating_table,
    score_table,
    subgroup_blocks,
)
from stage1_classify.settings.classifier import Stage1Settings

_MAX_TYPICAL, _TYPICAL_PX = 5, 300


@dataclass(frozen=True)
class ReportFacts:
    """What the report shows, in addition to the settings and the run's ``metrics.jsonl``.

    metrics: of the test split, see `classification_metrics`. val, test: calibrated; val is None for a finished
    classifier on another data set, whose evaluated cases are test. thresholds: (K,), NaN for none.
    phases: seconds and peak_mib per phase, as in `Run.phases`.
    """

    evidence: Evidence
    metrics: Mapping[str, float | None]
    val: Scored | None
    test: Scored
    thresholds: Floats
    calibration: Calibration
    phases: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def write_classifier_report(run_dir: Path, settings: Stage1Settings, facts: ReportFacts) -> Path:
    """Write ``report.html`` and its pictures, ``failures.csv`` and ``subgroups.csv``; returns the page's path.

    settings: of the training; for an ensemble those of its first member with the ensemble's `operating_point`.
    """
    findings, min_positives = settings.findings, settings.train.min_positives
    failures = worst_failures(facts.test, facts.thresholds, findings)
    training = _curve_figures(run_dir)
    if facts.evidence.train is not None:
        training += _picture_figures(run_dir, settings, facts.evidence.train)
    blocks = [
        *_typical_pictures(run_dir, facts.test, findings),
        _auroc_chart(run_dir, findings, facts.metrics),
        Verdict("Result", verdict(facts.metrics, findings, min_positives)),
        Text("Test split" if facts.val is not None else "Evaluated cases"),
        score_table(findings, facts.metrics, min_positives=min_positives),
        confusion_table(findings, facts.metrics, facts.thresholds),
        *_operating_blocks(settings, facts),
        *calibration_blocks(facts.test, findings, facts.calibration, run_dir),
        *subgroup_blocks(facts.test, settings, facts.thresholds, run_dir),
        Text("Failures"),
        *failure_blocks(facts.test, failures, run_dir),
        *([Text("Training"), *training] if training else []),
        Text("Data"),
        target_table(settings, facts),
        *audit_blocks(facts.evidence.data, findings, run_dir, splits=facts.evidence.ids),
        *_run_blocks(run_dir, facts),
    ]
    title = "Stage 1: ensemble" if facts.evidence.members else "Stage 1: classifier"
    title += f" on {facts.evidence.data.name}" if facts.evidence.classifier else ""
    lead, synthetic = describe(settings, facts), facts.evidence.data.synthetic
    return write_report(run_dir, title=title, lead=lead, blocks=blocks, synthetic=synthetic)


def _operating_blocks(settings: Stage1Settings, facts: ReportFacts) -> list[Block]:
    if facts.val is None:  # no other kind of threshold can be chosen
        return []
    findings, operating = settings.findings, settings.operating_point
    return [operating_table(facts.val, facts.test, findings, settings=operating, metrics=facts.metrics)]


def _typical_pictures(run_dir: Path, test: Scored, findings: Sequence[str]) -> list[Block]:
    """One row of test images; none where no finding has a positive case."""
    cases = typical_cases(test, _MAX_TYPICAL)
    heads, paths = [], []
    for column, case in cases:
        heads.append(f"{findings[column]}: {test.probabilities[case, column]:.2f}")
        paths.append(f"pictures/typical_{slug(findings[column])}.jpg")
        save_jpeg(run_dir / paths[-1], radiograph_of(test.split.cases.first, case, _TYPICAL_PX))
    note = (
        "One positive test case for each of the most frequent findings: the one with the median predicted probability, "
        "which is shown."
    )
    return [PictureRows("Typical test images", heads, [paths], note=note)] if cases else []


def _auroc_chart(run_dir: Path, findings: Sequence[str], metrics: Mapping[str, float | None]) -> Figure:
    names = {finding: slug(finding) for finding in findings} | {"mean": "mean"}
    bars = []
    for name, key in names.items():
        value, low, high = (metrics.get(f"auroc/{key}{end}") for end in ("", "/low", "/high"))
        bars.append(Bar(name, value, low, high, "marked" if name == "mean" else ""))
    plot_bars(run_dir / "pictures" / "auroc.png", bars, label="AUROC")
    return Figure("AUROC per finding", "pictures/auroc.png", "0.5 is chance, 1 is perfect. Lines are 95 % intervals.")


def describe(settings: Stage1Settings, facts: ReportFacts) -> str:
    """Which classifier this is and what it is evaluated on, in two or three sentences."""
    backbone = settings.backbone
    is_pretrained = backbone.pretrained or backbone.weights is not None
    start = "from pretrained weights" if is_pretrained else "trained from scratch"
    if settings.init_from is not None:
        start = f"from the weights of {settings.init_from}"
    what = f"{backbone.name}, {settings.head.kind} head, {start}"
    members = facts.evidence.members
    if members:
        what = f"{facts.evidence.combine.capitalize()} of {len(members)} runs ({', '.join(members)})"
    size = "{} x {} px".format(*settings.input.net_hw)
    first = facts.test.split.cases.first
    cases = f"{len(first.images)} cases of {patients_of(first).nunique()} patients"
    origin, where = "come from validation", f"from the test split ({cases})"
    if facts.evidence.classifier:
        what = f"The finished classifier {facts.evidence.classifier}: {what}"
        origin, where = "are its own", f"from {facts.evidence.data.name} ({cases}), without patients it has seen"
    crossing = len(crossing_patients(facts.evidence.data, facts.evidence.ids))
    leak = f" {crossing} patients are in two parts of this split, so the figures are too high." if crossing else ""
    return (
        f"{what}; {size}. Calibration and thresholds {origin}; figures are {where}, with 95 % intervals over patients."
        f"{leak}"
    )


def target_table(settings: Stage1Settings, facts: ReportFacts) -> Table:
    """The targets of each split, after the policies for uncertain and unmentioned labels; one row per finding."""
    splits = {} if facts.val is None else {"val": facts.val.split.targets}
    splits |= {"test": facts.test.split.targets}
    columns = ["finding", *splits]
    rows: list[list[Cell]] = [
        [finding, *(_counts(targets[:, k]) for targets in splits.values())]
        for k, finding in enumerate(settings.findings)
    ]
    note = (
        "Cases: positive / negative / masked. Masked cases do not count in the figures, because their label is "
        "uncertain or not mentioned."
    )
    if facts.evidence.train is not None:
        columns[1:1] = ["uncertain labels", "train", "soft"]
        by_finding = policies(settings.findings, settings.labels)
        for k, row in enumerate(rows):
            column = facts.evidence.train.targets[:, k]
            soft = (column > 0) & (column < 1) | (column == UNCERTAIN)
            row[1:1] = [by_finding[settings.findings[k]], _counts(column), int(soft.sum())]
        note += " Only training uses them, according to its policy. Soft: between 0 and 1, or of the class uncertain."
    return Table("Targets of each split", columns, rows, note)


def _counts(targets: Float32s) -> str:
    return f"{(targets == 1).sum()} / {(targets == 0).sum()} / {np.isnan(targets).sum()}"


def _picture_figures(run_dir: Path, settings: Stage1Settings, train: Split) -> list[Block]:
    save_png(run_dir / "pictures" / "steps.png", step_grid(train, settings))
    save_png(run_dir / "pictures" / "batch.png", batch_grid(train, settings))
    steps_note = (
        "One column per picture, one row per step, from the file to the input of the network. With three channels, "
        "augmentation is shown on the first; the others change alike. Normalised pictures range from their lowest "
        "value (black) to their highest (white)."
    )
    batch_note = "The input of the network: sampled, augmented, normalised; with the training targets."
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
        logged = {name: key for name, key in keys.items() if any(entry.get(key) is not None for entry in entries)}
        if not logged:
            continue
        curves = {
            name: (epochs, np.array([entry.get(key) for entry in entries], float).tolist())
            for name, key in logged.items()
        }
        path = f"pictures/{title.split(',')[0].lower().replace(' ', '_')}.png"
        plot_curves(run_dir / path, curves, labels=("epoch", ""), x_ticks="whole")
        blocks.append(Figure(title, path, collapsed=title == "Learning rate"))
    return blocks


def _run_blocks(run_dir: Path, facts: ReportFacts) -> list[Block]:
    """Images per split, seconds and memory per phase, and the speed of training."""
    rows: list[list[Cell]] = [
        [name, round(phase["seconds"], 1), round(phase["peak_mib"])] for name, phase in facts.phases.items()
    ]
    entries = read_log(run_dir)
    speeds = [entry["train/images_per_second"] for entry in entries if "train/images_per_second" in entry]
    note = f"Training processed {np.median(speeds):.1f} images per second (median epoch)." if speeds else ""
    skipped = max((entry.get("train/skipped_steps") or 0 for entry in entries), default=0)  # since the start
    if skipped:
        note += f" {skipped:g} steps overflowed and were skipped."
    blocks: list[Block] = []
    if facts.evidence.ids:
        blocks.append(Text("Images", ", ".join(f"{name} {len(ids)}" for name, ids in facts.evidence.ids.items()) + "."))
    if rows or note:
        blocks.append(Table("Time and memory", ["phase", "seconds", "peak memory so far in MiB"], rows, note.strip()))
    return [Text("Run"), *blocks] if blocks else []

"""Tables and charts of stage 1's report: how well the classifier works on the test split, and for whom."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.arrays import Floats
from cxr.labels import slug
from cxr.metrics import ReadMetrics
from cxr.runs.run_folder import atomic_write_text
from cxr.splits import patients_of
from eval.classification.calibration import Calibration
from eval.classification.operating_points import ThresholdKind, choose_thresholds
from eval.classification.subgroups import MEAN, SubgroupRow, subgroup_metrics, subgroup_verdict
from eval.report.blocks import Block, Table, Text
from eval.report.format import Cell, estimate_text, figure_text, listed
from eval.report.reliability_chart import ReliabilityPanel, reliability_block
from eval.stats.calibration import reliability
from stage1_classify.data.targets import evaluation_targets
from stage1_classify.evaluation.predictions import Scored
from stage1_classify.settings.classifier import OperatingPointSettings, Stage1Settings

TOO_FEW = " *"
"""Follows the name of a finding with too few positives."""

SUBGROUP_FILE = "subgroups.csv"

_COLUMNS = ("auprc", "f1", "sensitivity", "specificity", "precision", "accuracy", "ece")
_KINDS: dict[ThresholdKind, str] = {"f1": "best F1", "youden": "Youden", "sensitivity": "sens. ≥ {:g}"}
"""Kinds that are chosen on validation, and what heads their columns."""


def score_table(findings: Sequence[str], metrics: ReadMetrics, *, min_positives: int) -> Table:
    """One row per finding, then the mean. Findings with fewer than `min_positives` are marked and not in the mean."""
    rows: list[list[Cell]] = []
    marked = False
    for finding in findings:
        few = (metrics.get(f"positives/{slug(finding)}") or 0) < min_positives
        marked |= few
        rows.append([finding + TOO_FEW * few, *_figures(metrics, slug(finding))])
    rows.append(["mean", *_figures(metrics, "mean")])
    columns = ["finding", "pos.", "AUROC [95 %]", "AUPRC", "F1", "sens.", "spec.", "precision", "accuracy", "ECE"]
    note = "Decisions at the thresholds chosen on validation. ECE: expected calibration error, 0 is perfect."
    if marked:
        note += f" *: fewer than {min_positives} positives, shown but not in the mean."
    return Table("Figures per finding", columns, rows, note, highlight=len(rows) - 1)


def confusion_table(findings: Sequence[str], metrics: ReadMetrics, thresholds: Floats) -> Table:
    """Counts of test cases by label and decision."""
    rows: list[list[Cell]] = []
    for finding, threshold in zip(findings, thresholds.tolist(), strict=True):
        counts = [metrics.get(f"{name}/{slug(finding)}") for name in ("tp", "fn", "fp", "tn")]
        rows.append([finding, threshold, *(None if count is None else int(count) for count in counts)])
    columns = ["finding", "threshold", "found", "missed", "false alarms", "correct negatives"]
    note = "Positive cases are found or missed; negative cases are false alarms or correct negatives."
    return Table("Decisions, in cases", columns, rows, note)


def operating_table(
    val: Scored, test: Scored, findings: Sequence[str], *, settings: OperatingPointSettings, metrics: ReadMetrics
) -> Table:
    """Every kind of threshold, chosen on validation, with its sensitivity and specificity on test."""
    names = {kind: name.format(settings.sensitivity) for kind, name in _KINDS.items()}
    rows: list[list[Cell]] = [[finding] for finding in findings]
    columns = ["finding"]
    for kind, name in names.items():
        columns += [f"{name}: threshold", "sens.", "spec."]
        thresholds = choose_thresholds(val.targets, val.probabilities, kind=kind, sensitivity=settings.sensitivity)
        for k, threshold in enumerate(thresholds.tolist()):
            rows[k] += [threshold, *_sensitivity_and_specificity(test, k, threshold)]
    columns.append(f"best spec. at {names['sensitivity']}")
    for row, finding in zip(rows, findings, strict=True):
        row.append(figure_text(metrics, f"specificity_at_sensitivity/{slug(finding)}"))
    note = (
        "Thresholds are chosen on validation; sensitivity and specificity are from the test split. The last column is "
        "a point of the ROC of the test split, for comparison with publications. This run uses "
        f"{names.get(settings.threshold, f'the fixed threshold {settings.fixed_at:g}')}."
    )
    return Table("Operating points", columns, rows, note)


def calibration_blocks(test: Scored, findings: Sequence[str], calibration: Calibration, run_dir: Path) -> list[Block]:
    """Reliability diagrams of the test split before and after calibration, and findings that have no calibration."""
    is_calibrated = calibration.kind != "none"
    how = f"{calibration.kind} calibration, fitted on validation" if is_calibrated else "not calibrated"
    note = (
        "On the dashed line, predicted probabilities equal observed frequencies; below it, the finding is rarer than "
        f"predicted. Larger points hold more cases. Probabilities: {how}."
    )
    panels = reliability_panels(test, findings, calibration)
    blocks = [reliability_block(run_dir, "Calibration", panels, of="cases", note=note)]
    notes = calibration.notes(findings)
    return [*blocks, Text("Not calibrated", "\n\n".join(notes))] if notes else blocks


def reliability_panels(test: Scored, findings: Sequence[str], calibration: Calibration) -> list[ReliabilityPanel]:
    """One panel per finding; a single curve where nothing was calibrated."""
    panels = []
    for k, finding in enumerate(findings):
        targets = test.targets[:, k]
        curves = {"before calibration": reliability(targets, test.raw[:, k])}
        if calibration.kind != "none":
            curves["after calibration"] = reliability(targets, test.probabilities[:, k])
        errors = [f"{curve.expected_error:.3f}" for curve in curves.values() if curve.count.any()]
        panels.append(ReliabilityPanel(finding, curves, f"ECE {' → '.join(errors)}" if errors else "no labels"))
    return panels


def subgroup_blocks(test: Scored, settings: Stage1Settings, thresholds: Floats, run_dir: Path) -> list[Block]:
    """Figures by sex, age band, view, data set (if there are several) and the findings of settings.subgroups;
    ``subgroups.csv`` holds all, the table means and significant differences.
    """
    first = test.split.cases.first
    names = ["sex", "age", "view", *(["set"] if (first.images["set"] != "").any() else [])]
    said = evaluation_targets(first.labels[settings.subgroups], settings.labels)
    by_label = pd.DataFrame(said, columns=settings.subgroups).replace({1.0: "yes", 0.0: "no", np.nan: ""})
    attributes = pd.concat([first.images[names].reset_index(drop=True), by_label.astype(object)], axis=1)
    rows = subgroup_metrics(
        test.targets,
        test.probabilities,
        findings=settings.findings,
        thresholds=thresholds,
        attributes=attributes,
        groups=patients_of(first).tolist(),
        seed=settings.seed,
        min_positives=settings.train.min_positives,
    )
    text = subgroup_frame(rows).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    atomic_write_text(run_dir / SUBGROUP_FILE, text)
    return [subgroup_table(rows)]


def subgroup_table(rows: Sequence[SubgroupRow]) -> Table:
    """The mean of every subgroup, and the findings that differ significantly from all other cases."""
    groups: dict[str, set[str]] = {}
    for row in rows:
        groups.setdefault(row.attribute, set()).add(row.value)
    single = [name for name, values in groups.items() if len(values) == 1]
    shown = [
        row
        for row in rows
        if row.attribute not in single
        and (row.finding == MEAN or (row.difference is not None and row.difference.is_clear))
    ]
    cells: list[list[Cell]] = [
        [
            f"{row.attribute}: {row.value}" + ("" if row.finding == MEAN else f", {row.finding}"),
            row.num_cases,
            row.num_positives,
            estimate_text(row.auroc),
            estimate_text(row.difference),
            row.sensitivity.value if row.sensitivity else None,
            row.specificity.value if row.specificity else None,
            row.remark,
        ]
        for row in shown
    ]
    difference = "difference from the others [95 %]"
    columns = ["subgroup", "cases", "positives", "AUROC [95 %]", difference, "sens.", "spec.", "remark"]
    note = (
        f"{subgroup_verdict(rows)} Mean over findings; single findings only where they differ significantly. "
        f"{SUBGROUP_FILE} holds all of them."
    ) + f" Not compared, because all cases are in one group: {listed(single)}." * bool(single)
    return Table("Subgroups", columns, cells, note.strip())


def subgroup_frame(rows: Sequence[SubgroupRow]) -> pd.DataFrame:
    """All rows as a flat table, intervals as `<figure>`, `<figure> low`, `<figure> high`."""
    names = ("auroc", "sensitivity", "specificity", "difference")
    facts = ("attribute", "value", "finding", "num_cases", "num_positives")
    ends = {"": "value", " low": "low", " high": "high"}
    entries = [
        {name: getattr(row, name) for name in facts}
        | {f"{n}{end}": getattr(getattr(row, n), field, None) for n in names for end, field in ends.items()}
        | {"remark": row.remark}
        for row in rows
    ]
    columns = [*facts, *(f"{name}{end}" for name in names for end in ends), "remark"]
    return pd.DataFrame(entries, columns=columns)


def _figures(metrics: ReadMetrics, name: str) -> list[Cell]:
    positives = None if name == "mean" else metrics.get(f"positives/{name}")
    count = None if positives is None else int(positives)
    return [count, figure_text(metrics, f"auroc/{name}"), *(metrics.get(f"{column}/{name}") for column in _COLUMNS)]


def _sensitivity_and_specificity(test: Scored, column: int, threshold: float) -> list[Cell]:
    targets, called = test.targets[:, column], test.probabilities[:, column] >= threshold
    shares = (called[targets == 1], ~called[targets == 0])
    return [None if np.isnan(threshold) or not len(share) else float(share.mean()) for share in shares]

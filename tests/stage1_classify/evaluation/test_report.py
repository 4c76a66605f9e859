"""stage1_classify.evaluation.report: exact tables of tiny cases; the whole page with and without optional parts."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxr.splits import patients_of
from eval.classification.calibration import Calibration, fit_calibration
from eval.classification.metrics import classification_metrics
from eval.classification.subgroups import SubgroupRow
from eval.report.blocks import Figure, PictureRows, Table, Text, Verdict, read_report
from eval.stats.bootstrap import Estimate
from stage1_classify.evaluation.predictions import Evidence, Scored
from stage1_classify.evaluation.report import ReportFacts, describe, target_table, write_classifier_report
from stage1_classify.evaluation.report_tables import (
    calibration_blocks,
    confusion_table,
    operating_table,
    reliability_panels,
    score_table,
    subgroup_blocks,
    subgroup_frame,
    subgroup_table,
)
from stage1_classify.settings.classifier import OperatingPointSettings, Stage1Settings
from tests.stage1_classify.evaluation.scored_builders import FINDINGS, NAN, scored, split_of
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings

NO_CALIBRATION = Calibration("none", ())


def facts_of(test: Scored, *, ids: Any = None, phases: Any = None, **evidence: Any) -> ReportFacts:
    """Facts of a classifier evaluated on `test`, its thresholds .5."""
    thresholds = np.full(2, 0.5)
    metrics = classification_metrics(
        test.split.targets,
        test.probabilities,
        findings=FINDINGS,
        thresholds=thresholds,
        groups=patients_of(test.split.cases.first).tolist(),
        num_resamples=20,
    )
    data = test.split.cases.first
    calibration = fit_calibration(test.split.targets, test.raw, "none")
    of_splits = Evidence(data, ids or {}, test, test, **evidence)
    return ReportFacts(of_splits, metrics, test, test, thresholds, calibration, phases or {})


@pytest.fixture
def settings(tmp_path: Path) -> Stage1Settings:
    changes: dict[str, Any] = {"findings": FINDINGS}
    return stage1_settings(patch_folder(tmp_path / "data", num_images=6)).model_copy(update=changes)


def test_score_table_marks_findings_with_too_few_positives() -> None:
    metrics = {
        "positives/edema": 7.0, "auroc/edema": 0.8, "auroc/edema/low": 0.7, "auroc/edema/high": 0.9,
        "auprc/edema": 0.5, "f1/edema": 0.6, "sensitivity/edema": 0.7, "specificity/edema": 0.75,
        "precision/edema": 0.55, "accuracy/edema": 0.74, "ece/edema": 0.05,
        "positives/lung_lesion": 1.0, "auroc/mean": 0.8, "positives/mean": 4.0,
    }  # fmt: skip
    table = score_table(FINDINGS, metrics, min_positives=2)
    assert table.rows == [
        ["Edema", 7, "0.800 [0.700, 0.900]", 0.5, 0.6, 0.7, 0.75, 0.55, 0.74, 0.05],
        ["Lung Lesion *", 1, "–", None, None, None, None, None, None, None],
        ["mean", None, "0.800", None, None, None, None, None, None, None],
    ]
    assert "fewer than 2 positives" in table.note
    assert "*" not in score_table(FINDINGS, metrics, min_positives=1).note


def test_confusion_counts_are_those_of_the_metrics(tmp_path: Path) -> None:
    part = scored(tmp_path, [[1, 0], [1, NAN], [0, 0], [0, 0]], [[0.9, 0], [0.1, 0], [0.8, 0.7], [0.2, 0]])
    facts = facts_of(part)
    assert confusion_table(FINDINGS, facts.metrics, np.array([0.5, NAN])).rows[0] == ["Edema", 0.5, 1, 1, 1, 1]
    none = confusion_table(FINDINGS, {}, np.array([NAN, NAN])).rows[1]
    assert none[0] == "Lung Lesion"
    assert none[2:] == [None] * 4


def test_operating_points_come_from_validation_and_are_evaluated_on_test(tmp_path: Path) -> None:
    val = scored(tmp_path / "val", [[1, 0], [1, 0], [0, 0], [0, 0]], [[0.9, 0], [0.4, 0], [0.6, 0], [0.2, 0]])
    test = scored(tmp_path / "test", [[1, 1], [1, 0], [0, 0]], [[0.7, 0.5], [0.25, 0.5], [0.35, 0.5]])
    settings = OperatingPointSettings(threshold="youden", sensitivity=0.5)
    metrics = {
        "specificity_at_sensitivity/edema": 0.75,
        "specificity_at_sensitivity/edema/low": 0.5,
        "specificity_at_sensitivity/edema/high": 1.0,
    }
    table = operating_table(val, test, FINDINGS, settings=settings, metrics=metrics)
    # F1 is best from .3 (all positives, one false alarm); Youden ties there and at .75, and takes the lower.
    assert table.rows[0][:7] == pytest.approx(["Edema", 0.3, 0.5, 0.0, 0.3, 0.5, 0.0])
    assert table.rows[0][7:10] == pytest.approx([0.75, 0.0, 1.0])
    assert [row[10] for row in table.rows] == ["0.750 [0.500, 1.000]", "–"]
    assert table.rows[1][0] == "Lung Lesion"
    assert np.isnan(np.array([table.rows[1][column] for column in (1, 4, 7)])).all()
    assert [table.rows[1][column] for column in (2, 3, 5, 6)] == [None] * 4
    assert table.columns[7] == "sens. ≥ 0.5: threshold"
    assert table.note.endswith("Youden.")


def test_calibration_is_shown_before_and_after(tmp_path: Path) -> None:
    part = scored(tmp_path, [[row % 2, NAN] for row in range(20)], [[0.3, 0.3]] * 20)
    after = Scored(part.split, part.raw, np.full((20, 2), 0.5))
    panels = reliability_panels(after, FINDINGS, Calibration("platt", ()))
    assert [(panel.name, panel.detail) for panel in panels] == [
        ("Edema", "ECE 0.200 → 0.000"),
        ("Lung Lesion", "no labels"),
    ]
    assert list(panels[0].curves) == ["before calibration", "after calibration"]
    (alone, _) = reliability_panels(part, FINDINGS, NO_CALIBRATION)
    assert (alone.detail, list(alone.curves)) == ("ECE 0.200", ["before calibration"])


def test_findings_without_calibration_are_named(tmp_path: Path) -> None:
    part = scored(tmp_path, [[row % 2, NAN] for row in range(20)], [[0.3 + 0.001 * row, 0.3] for row in range(20)])
    fitted = fit_calibration(part.split.targets, part.raw, "platt")
    figure, text = calibration_blocks(part, FINDINGS, fitted, tmp_path)
    assert isinstance(figure, Figure)
    assert "platt calibration" in figure.note and "Lung Lesion" in figure.note
    assert isinstance(text, Text)
    assert text.body.startswith("Lung Lesion: ")
    (figure,) = calibration_blocks(part, FINDINGS, NO_CALIBRATION, tmp_path)
    assert isinstance(figure, Figure)
    assert "not calibrated" in figure.note
    assert (tmp_path / "pictures" / "reliability.png").is_file()


def subgroup(finding: str, *, low: float, value: str = "F") -> SubgroupRow:
    estimate = Estimate(0.75, 0.5, 1.0)
    difference = Estimate(low + 0.2, low, low + 0.4)
    counts = {"num_cases": 9, "num_positives": 4}
    return SubgroupRow("sex", value, finding, **counts, auroc=estimate, sensitivity=estimate,
                       specificity=None, difference=difference, remark="r")  # fmt: skip


def test_labels_of_a_finding_split_the_test_cases(tmp_path: Path, settings: Stage1Settings) -> None:
    """Cases with Edema and without; the label of one case is uncertain."""
    test = scored(tmp_path, [[1, 1]] * 5, [[0.5, 0.5]] * 5)
    test.split.cases.first.labels["Edema"] = [1.0, 0.0, 1.0, NAN, -1.0]
    chosen = settings.model_copy(update={"subgroups": ["Edema"]})
    subgroup_blocks(test, chosen, np.full(2, 0.5), tmp_path)
    rows = pd.read_csv(tmp_path / "subgroups.csv").query("finding == 'mean' and attribute == 'Edema'")
    assert dict(zip(rows["value"], rows["num_cases"], strict=True)) == {"no": 2, "yes": 2, "unknown": 1}
    subgroup_blocks(test, settings, np.full(2, 0.5), tmp_path)
    assert "Edema" not in set(pd.read_csv(tmp_path / "subgroups.csv")["attribute"])


def test_subgroups_show_means_and_clear_differences_only() -> None:
    assert subgroup_table([]).rows == []
    rows = [subgroup("mean", low=-0.1), subgroup("Edema", low=-0.1), subgroup("Fracture", low=0.1)]
    alone = subgroup_table(rows)  # the only group of its attribute
    assert alone.rows == [] and "in one group: sex." in alone.note
    table = subgroup_table([*rows, subgroup("Edema", low=-0.1, value="M")])
    assert table.rows == [
        ["sex: F", 9, 4, "0.750 [0.500, 1.000]", "0.100 [-0.100, 0.300]", 0.75, None, "r"],
        ["sex: F, Fracture", 9, 4, "0.750 [0.500, 1.000]", "0.300 [0.100, 0.500]", 0.75, None, "r"],
    ]
    frame = subgroup_frame(rows)
    assert frame["finding"].tolist() == ["mean", "Edema", "Fracture"]
    assert frame.loc[1, ["auroc", "auroc low", "auroc high"]].tolist() == [0.75, 0.5, 1.0]
    assert frame["specificity"].isna().all()
    assert subgroup_frame([]).columns.tolist() == frame.columns.tolist()


def test_targets_of_each_split(tmp_path: Path, settings: Stage1Settings) -> None:
    test = scored(tmp_path, [[1, NAN], [0, 1], [0, 0]], np.full((3, 2), 0.5))
    train = split_of(tmp_path / "train", [[1, -1], [0.6, NAN], [0, 1], [0, 0]])
    labels = settings.labels.model_copy(update={"uncertain_by_finding": {"Lung Lesion": "three_class"}})
    settings = settings.model_copy(update={"labels": labels})
    facts = facts_of(test, train=train)
    assert target_table(settings, facts).rows == [
        ["Edema", "ignore", "1 / 2 / 0", 1, "1 / 2 / 0", "1 / 2 / 0"],
        ["Lung Lesion", "three_class", "1 / 1 / 1", 1, "1 / 1 / 1", "1 / 1 / 1"],
    ]
    assert target_table(settings, facts_of(test)).rows[1] == ["Lung Lesion", "1 / 1 / 1", "1 / 1 / 1"]


def test_the_classifier_is_described(tmp_path: Path, settings: Stage1Settings) -> None:
    images = {"patient_id": ["p", "p", "q"]}
    test = scored(tmp_path, [[1, 0]] * 3, np.full((3, 2), 0.5), images=images)
    text = describe(settings, facts_of(test))
    assert text.startswith("test_convnext, pcam head, trained from scratch; 32 x 48 px.")
    assert "3 cases of 2 patients" in text
    together = describe(settings, facts_of(test, members=["a", "b"], combine="minimum"))
    assert together.startswith("Minimum of 2 runs (a, b); 32 x 48 px.")
    later = settings.model_copy(update={"init_from": Path("runs/first")})
    assert "from the weights of runs/first" in describe(later, facts_of(test))


def scored_cases(tmp_path: Path) -> Scored:
    """Edema is guessed, Lung Lesion well known; a positive Edema is missed and a false alarm raised."""
    targets = [[row % 2, int(row < 6)] for row in range(12)]
    probabilities = [[0.2 + 0.5 * (row in (3, 4)), 0.9 - 0.07 * row] for row in range(12)]
    images = {"age": [30, 70] * 6, "sex": ["F", "F", "M"] * 4, "view": ["frontal"] * 12}
    return scored(tmp_path, targets, probabilities, images=images)


def test_the_page_of_a_training(tmp_path: Path, settings: Stage1Settings) -> None:
    log: list[dict[str, Any]] = [
        {
            "step": 1,
            "train/loss": 0.7,
            "val/loss": 0.6,
            "val/auroc": None,
            "train/images_per_second": 20.0,
            "train/skipped_steps": 3,
        },
        {
            "step": 2,
            "train/loss": 0.5,
            "val/loss": 0.6,
            "val/auroc": 0.8,
            "train/images_per_second": 30.0,
            "train/skipped_steps": 4,
        },
    ]
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    facts = facts_of(
        scored_cases(tmp_path),
        train=split_of(tmp_path / "train", [[row % 2, 0] for row in range(8)], settings=settings.input),
        ids={"train": ["a"] * 8, "val": ["b"] * 12, "test": ["c"] * 12},
        phases={"training": {"seconds": 12.34, "peak_mib": 456.7}},
    )
    page = write_classifier_report(run_dir, settings, facts)
    report = read_report(run_dir)
    assert report is not None
    assert page == run_dir / "report.html"
    verdict = next(block for block in report.blocks if isinstance(block, Verdict)).body
    assert "Mean AUROC" in verdict
    assert "Edema: " in verdict  # called a guess in words
    headings = [block.title for block in report.blocks if isinstance(block, Text) and not block.body]
    assert headings == ["Test split", "Failures", "Training", "Data", "Run"]
    titles = [block.title for block in report.blocks]
    assert titles[:5] == [
        "Typical test images", "AUROC per finding", "Result", "Test split", "Figures per finding"
    ]  # fmt: skip
    for title in ("Loss", "Validation, mean over findings", "Training pictures after each step",
                  "The first training batch", "Targets of each split", "Ages"):  # fmt: skip
        assert title in titles
    assert "Learning rate" not in titles  # nothing was logged of it
    last = report.blocks[-1]
    assert isinstance(last, Table)
    assert last.rows == [["training", 12.3, 457]]
    assert last.note == (
        "Training processed 25.0 images per second (median epoch). 4 steps overflowed and were skipped."
    )  # each epoch logs those since the start
    with (run_dir / "failures.csv").open() as file:
        assert {(row["finding"], row["image_id"]) for row in csv.DictReader(file)} >= {
            ("Edema", "p001"), ("Edema", "p004")
        }  # fmt: skip
    assert (run_dir / "subgroups.csv").read_text().startswith("attribute,value,finding,num_cases")


def test_the_page_of_an_ensemble_has_no_training(tmp_path: Path, settings: Stage1Settings) -> None:
    facts = facts_of(scored_cases(tmp_path), members=["a", "b"], combine="mean")
    (tmp_path / "run").mkdir()
    write_classifier_report(tmp_path / "run", settings, facts)
    report = read_report(tmp_path / "run")
    assert report is not None
    assert report.title == "Stage 1: ensemble"
    headings = [block.title for block in report.blocks if isinstance(block, Text) and not block.body]
    assert headings == ["Test split", "Failures", "Data"]


def test_a_page_of_findings_without_positives(tmp_path: Path, settings: Stage1Settings) -> None:
    """Nothing can be said of such a classifier, and the page says that."""
    part = scored(tmp_path, np.zeros((6, 2)), np.full((6, 2), 0.1))
    (tmp_path / "run").mkdir()
    write_classifier_report(tmp_path / "run", settings, facts_of(part))
    report = read_report(tmp_path / "run")
    assert report is not None
    assert next(block.body for block in report.blocks if isinstance(block, Verdict)).startswith(
        "No finding has an AUROC"
    )
    assert not any(isinstance(block, PictureRows) for block in report.blocks)

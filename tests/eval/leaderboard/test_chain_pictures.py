"""eval.leaderboard.chain_pictures: which pictures there are, and which boxes they show."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxr.coco import boxes_table, write_coco
from cxr.config import Settings
from cxr.runs.run_folder import FinishedRun, open_run, start_run
from eval.detection.curves import Confidence
from eval.leaderboard.chain_pictures import Column, chain_pictures
from eval.report.box_colours import DETECTED, FROM_MAP, TRUE
from eval.report.pictures import BLUE, GREEN, ORANGE, save_jpeg
from eval.stats.calibration import Curve
from tests.eval.detection.box_builders import coco_boxes

FINDINGS = ("Edema", "Fracture")
EXAMPLE = {"image_id": "a", "finding": "Edema", "method": "pcam"}
EXAMPLE |= {name: f"pictures/examples/0_{name}.jpg" for name in ("radiograph", "heat_map")}


class Nothing(Settings):
    """Settings of a run that has none."""


def finished(folder: Path, stage: str, **facts: Any) -> FinishedRun:
    run = start_run(folder, stage=stage, settings=Nothing(), inputs={})
    run.finish({}, {}, findings=list(FINDINGS), **facts)
    return open_run(folder)


def boxes(folder: Path, name: str, *rows: tuple[object, ...]) -> None:
    truth = coco_boxes([], images=("a", "b"), findings=FINDINGS)
    write_coco(folder / "coco" / f"{name}.json", truth.with_boxes(boxes_table(rows)))


def seen(path: Path) -> set[str]:
    """Names of the colours of boxes in a picture."""
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    colours = {"truth": GREEN, "cam": ORANGE, "detector": BLUE}
    near = {name: np.abs(picture - colour).max(axis=2) < 30 for name, colour in colours.items()}
    return {name for name, where in near.items() if where.sum() > 20}


@pytest.fixture
def runs(tmp_path: Path) -> tuple[FinishedRun, FinishedRun]:
    stage2 = finished(tmp_path / "stage2", "stage2", best_method="pcam")
    points = {
        "f1": {"about": "", "scores": {"Edema": 0.9, "Fracture": 0.1}},
        "half_fp": {"about": "", "scores": {"Edema": 0.5, "Fracture": None}},
    }
    stage3 = finished(tmp_path / "stage3", "stage3", operating_points=points)
    save_jpeg(stage2.dir / EXAMPLE["radiograph"], np.full((300, 400, 3), 90, dtype=np.uint8))
    save_jpeg(stage2.dir / EXAMPLE["heat_map"], np.full((300, 400, 3), 90, dtype=np.uint8))
    (stage2.dir / "examples.json").write_text(json.dumps({"choice": "The first image.", "examples": [EXAMPLE]}))
    boxes(stage2.dir, "gt_test", ("a", "Edema", 20, 20, 60, 60, float("nan")))
    boxes(stage2.dir, "detections_pcam", ("a", "Edema", 20, 20, 60, 60, 0.1), ("b", "Edema", 1, 1, 9, 9, 0.9))
    boxes(stage3.dir, "detections_detector", ("a", "Edema", 20, 20, 60, 60, 0.6))
    return stage2, stage3


def test_a_run_without_examples_or_without_boxes_has_no_pictures(
    runs: tuple[FinishedRun, FinishedRun], tmp_path: Path
) -> None:
    assert chain_pictures(runs[1], None, tmp_path) is None
    (runs[0].dir / "coco" / "gt_test.json").unlink()
    assert chain_pictures(*runs, tmp_path) is None


def test_a_row_shows_each_kind_of_box_in_its_colour(runs: tuple[FinishedRun, FinishedRun], tmp_path: Path) -> None:
    rows = chain_pictures(*runs, tmp_path)
    assert rows is not None
    assert [len(row) for row in rows.rows] == [len(rows.columns)] == [5]
    assert [seen(tmp_path / path) for path in rows.rows[0][2:]] == [{"cam"}, {"detector"}, {"truth"}]
    assert rows.note.startswith("The first image.") and "operating point half_fp" in rows.note
    assert "Edema" in rows.captions[0]
    assert len(rows.legend) == 4


def test_boxes_below_the_operating_point_and_of_other_findings_are_not_shown(
    runs: tuple[FinishedRun, FinishedRun], tmp_path: Path
) -> None:
    weak, other = ("a", "Edema", 20, 20, 60, 60, 0.4), ("a", "Fracture", 20, 20, 60, 60, 0.9)
    boxes(runs[1].dir, "detections_detector", weak, other)
    rows = chain_pictures(*runs, tmp_path)
    assert rows is not None
    plain, detector = (np.asarray(Image.open(tmp_path / rows.rows[0][place])).astype(int) for place in (0, 3))
    assert seen(tmp_path / rows.rows[0][3]) == set()
    changed = np.abs(plain - detector).max(axis=2) > 50  # the words that no box reaches the point
    assert changed[250:].any() and not changed[:250].any()


def test_captions_are_the_confidence_of_a_detection_the_score_of_a_cam_box_and_none_of_a_true_box() -> None:
    truth = coco_boxes([], images=("a",), findings=FINDINGS)
    table = boxes_table([("a", "Edema", 0, 0, 9, 9, 0.5), ("a", "Fracture", 0, 0, 9, 9, 0.5)])
    curves = Confidence(Curve(1.0, 0.0), {"Fracture": Curve(1.0, np.log(3.0))})
    assert Column(truth, DETECTED, curves=curves).captions_of(table) == ["50 %", "75 %"]
    assert Column(truth, FROM_MAP).captions_of(table) == ["0.50", "0.50"]
    assert Column(truth, TRUE).captions_of(table.assign(score=np.nan)) == ["", ""]


def test_without_a_detector_there_is_no_such_column(runs: tuple[FinishedRun, FinishedRun], tmp_path: Path) -> None:
    rows = chain_pictures(runs[0], None, tmp_path)
    assert rows is not None
    assert len(rows.columns) == 4

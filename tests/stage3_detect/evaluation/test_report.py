"""The report of stage 3: its pictures and tables, also without a tune split and without boxes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.boxes import CORNERS
from cxr.coco import boxes_table, read_coco
from cxr.runs.run_folder import FinishedRun, open_run
from eval.report.blocks import Figure, Table, Text, Verdict, read_report
from stage3_detect.evaluation.evaluate import evaluate
from stage3_detect.evaluation.gallery import TILE_PX, render_tile
from stage3_detect.evaluation.report import ReportParts, folder_words, write_detector_report
from stage3_detect.evaluation.report_tables import format_tables
from stage3_detect.evaluation.results import Evaluation
from stage3_detect.labels.sources import Sources
from stage3_detect.labels.yolo_folder import YoloFolder
from stage3_detect.settings.detector import Stage3Settings
from tests.stage3_detect.stage3_builders import FINDINGS, make_stage2_run

NAN = float("nan")
SETTINGS = Stage3Settings.model_validate({"data": {"image_px": 64}, "train": {"num_epochs": 1}, "num_resamples": 20})
WIDE = (0, 0, 100, 50)
EDGES = {"green": (0, 190, 140), "blue": (86, 180, 233), "orange": (230, 159, 0)}


def folder_of(run_dir: Path, *, excluded: tuple[tuple[str, str], ...] = ()) -> YoloFolder:
    return YoloFolder(run_dir / "yolo" / "data.yaml", 16, 8, 3, 1, 0, 24, 2, 4, excluded)


def colours_of(picture: np.ndarray) -> set[str]:
    return {name for name, rgb in EDGES.items() if (picture == rgb).all(axis=2).sum() > 50}


@pytest.fixture(scope="module")
def stage2(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return open_run(make_stage2_run(tmp_path_factory.mktemp("report")))


def test_detections_are_blue_and_wrong_ones_dashed(stage2: FinishedRun) -> None:
    truth = read_coco(stage2.output("gt_test"))
    real = truth.boxes[truth.boxes["image_id"] == "test_000"].assign(score=0.8, text="")[:1]
    pair = ("test_000", str(real["finding"].iloc[0]))
    wrong = real.assign(x1=0, y1=0, x2=40, y2=40)
    assert colours_of(render_tile(truth, pair, real[:0])) == {"green"}
    solid, dashed = (render_tile(truth, pair, boxes) for boxes in (real, wrong))
    assert colours_of(dashed) == {"green", "blue"}
    x1, y1, x2, _ = np.rint(real[CORNERS].to_numpy()[0] * TILE_PX / 130).astype(int)
    assert (solid[y1, x1:x2] == EDGES["blue"]).all()
    blue = (dashed[0, : round(40 * TILE_PX / 130)] == EDGES["blue"]).all(axis=1)
    assert 0.3 < blue.mean() < 0.7
    tile = render_tile(truth, ("test_002", pair[1]), pd.concat([real, wrong]))  # an image without boxes, and none of it
    assert colours_of(tile) == set()
    assert tile.shape == (round(90 / 130 * TILE_PX), TILE_PX, 3)


# --- the page ---


def evaluated(stage2: FinishedRun, *, with_tune: bool = True, shift: float = 0.0, faint: bool = False) -> Evaluation:
    """faint: with a box below the operating point on each normal."""
    labels, tune, test = (read_coco(stage2.output(name)) for name in ("pseudo_labels", "gt_tune", "gt_test"))
    boxes = test.boxes.assign(score=0.7, x1=test.boxes["x1"] + shift, x2=test.boxes["x2"] + shift)
    marked = set(test.boxes["image_id"])
    normals = [image_id for image_id in test.images["image_id"] if image_id not in marked]
    alarms = [(name, FINDINGS[0], 5, 5, 40, 40, 0.65 if name == "test_002" else 0.05) for name in normals]
    alarm = boxes_table([row for row in alarms if faint or row[-1] > 0.5])
    found = test.with_boxes(pd.concat([boxes, alarm], ignore_index=True))
    false = boxes_table([(name, FINDINGS[0], 5, 5, 40, 40, 0.05) for name in tune.images["image_id"]])
    on_tune = tune.with_boxes(pd.concat([tune.boxes.assign(score=0.6), false], ignore_index=True))
    sources = Sources(labels, tune, None, test)
    return evaluate(found, on_tune if with_tune else None, stage2=stage2, sources=sources, settings=SETTINGS, others={})


@pytest.fixture(scope="module")
def page(stage2: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("run")
    lines = [f'{{"step": {s}, "train/box_loss": {3 - s}, "metrics/mAP50(B)": 0.{s}}}\n' for s in (1, 2)]
    (run_dir / "metrics.jsonl").write_text("".join(lines))
    (run_dir / "train").mkdir()
    Image.new("RGB", (40, 30)).save(run_dir / "train" / "train_batch0.jpg")
    metrics = {"ms_per_image/detector": 12.34, "ms_per_image/teacher": 50.0}
    facts = ReportParts(folder_of(run_dir), metrics, 4, blocks=[Text("Rounds", "None were asked for.")])
    return write_detector_report(run_dir, evaluated(stage2, shift=2), facts)


def test_page_has_every_part_and_no_path_of_the_machine(page: Path, stage2: FinishedRun) -> None:
    report = read_report(page.parent)
    assert report is not None and report.synthetic
    kinds = [type(block) for block in report.blocks[:4]]
    assert kinds == [Figure, Figure, Verdict, Table]
    headings = [block.title for block in report.blocks if isinstance(block, Text) and not block.body]
    assert headings == ["Findings", "False positives", "Operating points and calibration", "Pictures", "Training"]
    assert len([block for block in report.blocks if isinstance(block, Table)]) == 14
    paths = [block.path for block in report.blocks if isinstance(block, Figure)]
    assert paths == [
        f"pictures/{name}"
        for name in (
            "overview.jpg", "ap40.png", "froc.png", "reliability.png", "examples.jpg", "false_alarms.jpg",
            "training_loss.png", "validation.png", "train_batch0.jpg",
        )
    ]  # fmt: skip
    text = page.read_text()
    assert str(stage2.dir) not in text and str(page.parent) not in text


def table(page: Path, title: str) -> Table:
    report = read_report(page.parent)
    assert report is not None
    return next(block for block in report.blocks if isinstance(block, Table) and block.title == title)


def test_tables_name_what_they_compare(page: Path) -> None:
    main = table(page, "Detector, test split")
    assert [row[0] for row in main.rows] == [
        "detector", "CAM teacher: PCAM", "prior: mean box", "prior: centre box"
    ]  # fmt: skip
    assert [row[-1] for row in main.rows] == ["12.3", "50.0", None, None]
    findings = table(page, "AP40 per finding [95 %], test split")
    assert [row[0] for row in findings.rows] == list(FINDINGS)
    point = table(page, "Operating point f1")
    assert point.rows[0][:2] == ["all findings", None]
    assert point.rows[1][:2] == [FINDINGS[0], 0.6]


def test_true_boxes_are_counted_without_ignore_regions(stage2: FinishedRun, tmp_path: Path) -> None:
    made = evaluated(stage2)
    crowd = made.truth.with_boxes(made.truth.boxes.assign(iscrowd=1, finding=FINDINGS[0]))
    page = write_detector_report(
        tmp_path, replace(made, board=replace(made.board, truth=crowd)), ReportParts(folder_of(tmp_path), {}, 1)
    )
    assert [row[1] for row in table(page, "AP40 per finding [95 %], test split").rows] == [0, 0]


def test_pictures_show_what_the_service_shows(page: Path) -> None:
    report = read_report(page.parent)
    assert report is not None
    notes = {block.path: block.note for block in report.blocks if isinstance(block, Figure)}
    for name in ("overview", "examples", "false_alarms"):
        assert "operating point half_fp" in notes[f"pictures/{name}.jpg"]


def test_false_alarms_are_counted_and_shown(page: Path) -> None:
    report = read_report(page.parent)
    assert report is not None
    alarms = next(b for b in report.blocks if isinstance(b, Figure) and b.title.startswith("False alarms"))
    assert alarms.note.startswith("1 of 3 test images without true boxes")


def test_no_picture_of_a_normal_whose_boxes_stay_below_the_point(stage2: FinishedRun, tmp_path: Path) -> None:
    """Room for three, and one image has a box that is shown."""
    write_detector_report(tmp_path, evaluated(stage2, faint=True), ReportParts(folder_of(tmp_path), {}, 12))
    with Image.open(tmp_path / "pictures" / "false_alarms.jpg") as picture:
        assert TILE_PX <= picture.width < 2 * TILE_PX


def test_without_a_tune_split_the_page_says_why_and_still_shows_pictures(stage2: FinishedRun, tmp_path: Path) -> None:
    page = write_detector_report(tmp_path, evaluated(stage2, with_tune=False), ReportParts(folder_of(tmp_path), {}, 4))
    report = read_report(page.parent)
    assert report is not None
    why = next(block for block in report.blocks if block.title == "Nothing was chosen")
    assert isinstance(why, Text)
    assert why.body.endswith("no image of the tune split is left to choose on.")
    examples = next(b for b in report.blocks if isinstance(b, Figure) and b.title.startswith("Best"))
    assert "of the highest score (9, " in examples.note


def test_formats_have_a_row_where_they_have_a_figure() -> None:
    assert format_tables({}, teacher="T") == []
    metrics = {
        "ms_per_image/detector": 12.34, "ms_per_image/detector/p99": 20.0, "ms_per_image/detector_onnx": 5.0,
        "export/onnx/box_difference_px": 1e-4, "export/onnx/score_difference": 2e-6, "ms_per_image/teacher": None,
        "export/openvino_int8/ap40_loss": 0.01, "export/openvino_int8/ap40_loss/low": 0.0,
        "export/openvino_int8/ap40_loss/high": 0.02,
    }  # fmt: skip
    (made,) = format_tables(metrics, teacher="T")
    assert made.rows == [
        ["detector, PyTorch", "12.3", "20.0", None, None, "–"],
        ["detector, ONNX Runtime", "5.0", None, "0.0001", "2e-06", "–"],
        ["detector, OpenVINO INT8", None, None, None, None, "0.010 [0.000, 0.020]"],
        ["T", None, None, None, None, "–"],
    ]


def test_words_about_the_folder_name_unreadable_images(tmp_path: Path) -> None:
    words = folder_words(folder_of(tmp_path, excluded=tuple((f"i{n}", "broken") for n in range(21))))
    assert words.startswith("24 boxes in 16 images, 8 images without boxes.")
    assert words.endswith("21 images could not be read: " + ", ".join(f"i{n}" for n in range(20)) + " and 1 more.")


def test_words_about_the_folder_count_images_with_regions_that_are_not_used_apart(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    words = folder_words(folder)
    assert "2 ignore regions; 3 images with ignore regions only. Not used: 1 further image with" in words
    none = replace(folder, num_regions=0, num_uncertain=0, num_left_out=0, num_boxes=1, num_positives=1)
    assert (
        folder_words(none) == "1 box in 1 image, 8 images without boxes. The best epoch was chosen on 4 other images."
    )

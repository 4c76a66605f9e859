"""The report's pictures and tables: which images are shown, what is written beside them, what is said of nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.coco import boxes_table, read_coco
from cxr.runs.run_folder import FinishedRun, open_run
from eval.report.blocks import Figure, Table, Text, read_report
from stage3_detect.evaluation.evaluate import Judgement, judge
from stage3_detect.evaluation.gallery import (
    TILE_PX,
    Example,
    draw_tile,
    normal_rows,
    ranked_images,
    spread,
)
from stage3_detect.evaluation.report import ReportFacts, folder_words, write_detector_report
from stage3_detect.evaluation.report_tables import form_tables
from stage3_detect.labels.sources import Sources
from stage3_detect.labels.yolo_folder import YoloFolder
from stage3_detect.settings.detector import DetectSettings
from tests.eval.detection.box_builders import coco_boxes
from tests.stage3_detect.stage3_builders import FINDINGS, make_stage2_run

NAN = float("nan")
SETTINGS = DetectSettings.model_validate(
    {"data": {"image_px": 64}, "train": {"num_epochs": 1}, "num_resamples": 20}
)
WIDE = (0, 0, 100, 50)
EDGES = {"green": (0, 190, 140), "blue": (86, 180, 233), "orange": (230, 159, 0)}


def folder_of(run_dir: Path, *, excluded: tuple[tuple[str, str], ...] = ()) -> YoloFolder:
    return YoloFolder(run_dir / "yolo" / "data.yaml", 16, 8, 3, 1, 0, 24, 2, 4, excluded)


def example(row: int, quality: float = 0.0) -> Example:
    return Example(row, quality, 0, 1, 0)


# --- which images are shown ---


def test_no_images_no_examples() -> None:
    assert ranked_images(coco_boxes([], images=()), boxes_table()) == []
    assert spread([], 3) == {}


def test_quality_of_an_image_counts_overlap_wrong_and_missed_boxes() -> None:
    """Image a: one box right by IoU .8, one wrong, one missed: .8 / (1 + .5 + .5). b: nothing found. c: no true box."""
    truth = coco_boxes(
        [("a", "Edema", *WIDE, NAN), ("a", "Edema", 0, 100, 50, 150, NAN), ("b", "Edema", *WIDE, NAN)],
        images=("c", "b", "a"),
    )
    shown = boxes_table(
        [("a", "Edema", 0, 0, 80, 50, 0.9), ("a", "Edema", 200, 0, 220, 9, 0.8), ("c", "Edema", *WIDE, 0.9)]
    )
    assert ranked_images(truth, shown) == [Example(2, pytest.approx(0.4), 1, 2, 1), Example(1, 0.0, 0, 1, 0)]


def test_boxes_in_ignore_regions_do_not_lower_the_quality() -> None:
    truth = coco_boxes([("a", "Edema", *WIDE, NAN), ("a", "Edema", 200, 0, 300, 100, NAN)])
    truth = truth.with_boxes(truth.boxes.assign(iscrowd=[0, 1]))
    shown = boxes_table([("a", "Edema", *WIDE, 0.9), ("a", "Edema", 210, 10, 250, 60, 0.8)])
    assert ranked_images(truth, shown) == [Example(0, 1.0, 1, 1, 0)]
    assert normal_rows(truth) == [1]
    assert normal_rows(truth.with_boxes(truth.boxes[1:])) == [1]  # a region is no normal image either


@pytest.mark.parametrize(
    ("number", "each", "rows"),
    [
        (1, 3, {"best": [0]}),
        (2, 3, {"best": [0], "worst": [1]}),
        (3, 1, {"best": [0], "median": [1], "worst": [2]}),
        (9, 2, {"best": [0, 1], "median": [3, 4], "worst": [7, 8]}),
        (7, 4, {"best": [0, 1], "median": [2, 3], "worst": [5, 6]}),
    ],
)
def test_best_median_and_worst_share_no_image(number: int, each: int, rows: dict[str, list[int]]) -> None:
    chosen = spread([example(row) for row in range(number)], each)
    assert {rank: [one.row for one in part] for rank, part in chosen.items()} == rows


def colours_of(picture: np.ndarray) -> set[str]:
    return {name for name, rgb in EDGES.items() if (picture == rgb).all(axis=2).sum() > 50}


@pytest.fixture(scope="module")
def stage2(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return open_run(make_stage2_run(tmp_path_factory.mktemp("report")))


def test_right_boxes_are_blue_and_wrong_ones_orange(stage2: FinishedRun) -> None:
    truth = read_coco(stage2.output("gt_test"))
    real = truth.boxes[truth.boxes["image_id"] == "test_000"].assign(score=0.8)
    wrong = real.assign(x1=0, y1=0, x2=9, y2=9)
    assert colours_of(draw_tile(truth, 0, real[:0])) == {"green"}
    assert colours_of(draw_tile(truth, 0, real)) >= {"blue"}
    assert colours_of(draw_tile(truth, 0, wrong)) == {"green", "orange"}
    tile = draw_tile(truth, 2, pd.concat([real, wrong]))  # an image without boxes, and none of it
    assert colours_of(tile) == set()
    assert tile.shape == (291, 420, 3)  # of 90 x 130


# --- the page ---


def judged(
    stage2: FinishedRun, *, with_tune: bool = True, shift: float = 0.0, faint: bool = False
) -> Judgement:
    """faint: with a box below the operating point on each normal."""
    labels, tune, test = (read_coco(stage2.output(name)) for name in ("pseudo_labels", "gt_tune", "gt_test"))
    boxes = test.boxes.assign(score=0.7, x1=test.boxes["x1"] + shift, x2=test.boxes["x2"] + shift)
    marked = set(test.boxes["image_id"])
    normals = [image_id for image_id in test.images["image_id"] if image_id not in marked]
    alarms = [(name, FINDINGS[0], 5, 5, 40, 40, 0.65 if name == "test_002" else 0.05) for name in normals]
    alarm = boxes_table([row for row in alarms if faint or row[-1] > 0.5])
    found = test.with_boxes(pd.concat([boxes, alarm], ignore_index=True))
    on_tune = tune.with_boxes(tune.boxes.assign(score=0.6)) if with_tune else None
    return judge(found, on_tune, stage2, Sources(labels, tune, None, test), SETTINGS, {})


@pytest.fixture(scope="module")
def page(stage2: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("run")
    lines = [f'{{"step": {s}, "train/box_loss": {3 - s}, "metrics/mAP50(B)": 0.{s}}}\n' for s in (1, 2)]
    (run_dir / "metrics.jsonl").write_text("".join(lines))
    (run_dir / "train").mkdir()
    Image.new("RGB", (40, 30)).save(run_dir / "train" / "train_batch0.jpg")
    metrics = {"ms_per_image/detector": 12.34, "ms_per_image/teacher": 50.0}
    facts = ReportFacts(folder_of(run_dir), metrics, 4, blocks=[Text("Rounds", "None were asked for.")])
    return write_detector_report(run_dir, judged(stage2, shift=2), facts)


def test_page_has_every_part_and_no_path_of_the_machine(page: Path, stage2: FinishedRun) -> None:
    report = read_report(page.parent)
    assert report is not None and report.synthetic
    assert report.lead.startswith("The detector reaches a mean AP40 of")
    titles = [block.title for block in report.blocks]
    assert titles == [
        "Test split, against the readers' boxes", "AP40 with intervals", "The detector against each of the others",
        "Findings", "AP40 by finding [95 %]",
        "False positives", "FROC curves", "Sensitivity by false positives an image", "FROC by finding [95 %]",
        "Operating points and calibration", "Operating point f1", "Operating point half_fp", "Operating point one_fp",
        "Calibration error", "Reliability of the scores",
        "Pictures", "Best, median and worst test images", "False alarms on images without any box",
        "Localisation", "Localisation, test split", "Accuracy of the box at T, test split", "RoDeO, test split",
        "How it was made", "What it learned from", "Training loss", "AP on the images that choose the best epoch",
        "Training batch as the network sees it", "Rounds", "Forms of the detector",
    ]  # fmt: skip
    text = page.read_text()
    assert str(stage2.dir) not in text and str(page.parent) not in text


def table(page: Path, title: str) -> Table:
    report = read_report(page.parent)
    assert report is not None
    return next(block for block in report.blocks if isinstance(block, Table) and block.title == title)


def test_tables_name_what_they_compare(page: Path) -> None:
    main = table(page, "Test split, against the readers' boxes")
    assert [row[0] for row in main.rows] == [
        "detector", "CAM teacher: PCAM", "prior: mean box", "prior: centre box"
    ]  # fmt: skip
    assert [row[-1] for row in main.rows] == ["12.3", "50.0", None, None]
    findings = table(page, "AP40 by finding [95 %]")
    assert [row[0] for row in findings.rows] == list(FINDINGS)
    point = table(page, "Operating point f1")
    assert point.rows[0][:2] == ["all findings", None]
    assert point.rows[1][:2] == [FINDINGS[0], 0.6]


def test_true_boxes_are_counted_without_ignore_regions(stage2: FinishedRun, tmp_path: Path) -> None:
    made = judged(stage2)
    crowd = made.truth.with_boxes(made.truth.boxes.assign(iscrowd=1, finding=FINDINGS[0]))
    page = write_detector_report(
        tmp_path, replace(made, truth=crowd), ReportFacts(folder_of(tmp_path), {}, 1)
    )
    assert [row[1] for row in table(page, "AP40 by finding [95 %]").rows] == [0, 0]


def test_false_alarms_are_counted_and_shown(page: Path) -> None:
    report = read_report(page.parent)
    assert report is not None
    alarms = next(b for b in report.blocks if isinstance(b, Figure) and b.title.startswith("False alarms"))
    assert alarms.note.startswith(
        "1 of the 3 test images without a true box of these findings have at least one box at the operating point f1."
    )


def test_no_picture_of_a_normal_whose_boxes_stay_below_the_point(stage2: FinishedRun, tmp_path: Path) -> None:
    """Room for three, and one image has a box that is shown."""
    write_detector_report(tmp_path, judged(stage2, faint=True), ReportFacts(folder_of(tmp_path), {}, 12))
    with Image.open(tmp_path / "pictures" / "false_alarms.jpg") as picture:
        assert TILE_PX <= picture.width < 2 * TILE_PX


def test_without_a_tune_split_the_page_says_why_and_still_shows_pictures(
    stage2: FinishedRun, tmp_path: Path
) -> None:
    page = write_detector_report(
        tmp_path, judged(stage2, with_tune=False), ReportFacts(folder_of(tmp_path), {}, 4)
    )
    report = read_report(page.parent)
    assert report is not None
    why = next(block for block in report.blocks if block.title == "Nothing was chosen")
    assert isinstance(why, Text)
    assert why.body.endswith("no image of the tune split is left to choose on.")
    examples = next(b for b in report.blocks if isinstance(b, Figure) and b.title.startswith("Best"))
    assert "of the highest score, 9 in all as there are true boxes" in examples.note


def test_forms_have_a_row_where_they_have_a_figure() -> None:
    assert form_tables({}, teacher="T") == []
    metrics = {
        "ms_per_image/detector": 12.34, "ms_per_image/detector/p99": 20.0, "ms_per_image/detector_onnx": 5.0,
        "export/onnx/box_difference_px": 1e-4, "export/onnx/score_difference": 2e-6, "ms_per_image/teacher": None,
        "export/openvino_int8/ap40_loss": 0.01, "export/openvino_int8/ap40_loss/low": 0.0,
        "export/openvino_int8/ap40_loss/high": 0.02,
    }  # fmt: skip
    (made,) = form_tables(metrics, teacher="T")
    assert made.rows == [
        ["detector, PyTorch", "12.3", "20.0", None, None, "–"],
        ["detector, ONNX Runtime", "5.0", None, "0.0001", "2e-06", "–"],
        ["detector, OpenVINO INT8", None, None, None, None, "0.010 [0.000, 0.020]"],
        ["T", None, None, None, None, "–"],
    ]


def test_words_about_the_folder_name_what_could_not_be_read(tmp_path: Path) -> None:
    words = folder_words(folder_of(tmp_path, excluded=tuple((f"i{n}", "broken") for n in range(21))))
    assert words.startswith("24 boxes in 16 images, 8 images without any.")
    assert words.endswith("21 could not be read: " + ", ".join(f"i{n}" for n in range(20)) + ", ....")

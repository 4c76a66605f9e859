"""`eval/run.py score`: figures by name, files of other tools, and every way in which a file can be wrong."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cxr.coco import write_coco
from cxr.config import UserError
from eval.detection.average_precision import evaluate
from eval.detection.coco_files import read_predictions, read_truth
from eval.detection.score import parse_names
from eval.run import main
from tests.eval.detection.box_builders import coco_boxes, random_case
from tests.paths import ROOT

RUN = ROOT / "eval" / "run.py"
NAN = float("nan")

TRUTH: dict[str, Any] = {
    "images": [{"id": 11, "file_name": "x/a.png"}, {"id": 12, "file_name": "x/b.png"}],
    "categories": [{"id": 5, "name": "Edema"}, {"id": 9, "name": "Nodule/Mass"}],
    "annotations": [
        {"id": 1, "image_id": 11, "category_id": 5, "bbox": [10, 20, 100, 40]},
        {"id": 2, "image_id": 12, "category_id": 5, "bbox": [50, 30, 100, 100]},
    ],
}
HALF_OF_TWO = ((1 - math.sin(3.92 / math.sqrt(10))) / 2, (1 + math.sin(3.92 / math.sqrt(10))) / 2)
"""Interval of one of two boxes found: 45 degrees +- 1.96 / sqrt(4 x 2 + 2) on the arcsine scale."""
EXACT = {"image_id": 11, "category_id": 5, "bbox": [10, 20, 100, 40], "score": 0.9}


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def score(folder: Path, truth: Any, **predictions: Any) -> dict[str, float | None]:
    """Figures of `score` over written files."""
    gt = write(folder, "gt.json", truth)
    pred = [f"{name}={write(folder, f'{name}.json', content)}" for name, content in predictions.items()]
    assert main(["score", "--gt", str(gt), "--pred", *pred, "--out", str(folder / "out")]) == 0
    figures: dict[str, float | None] = json.loads((folder / "out" / "metrics.json").read_text())
    return figures


def test_empty_list_of_predictions(tmp_path: Path) -> None:
    figures = score(tmp_path, TRUTH, none=[])
    assert figures["none/ap40"] == figures["none/ap40/edema"] == figures["none/ap5095"] == 0.0
    assert figures["none/ap40/nodule_mass"] is None


def test_truth_without_boxes_has_no_figures(tmp_path: Path) -> None:
    figures = score(tmp_path, TRUTH | {"annotations": []}, some=[EXACT])
    assert set(figures.values()) == {None}


def test_figures_by_name(tmp_path: Path) -> None:
    figures = score(tmp_path, TRUTH, half=[EXACT])
    for name in ("ap10", "ap30", "ap40", "ap50", "ap70", "ap5095"):
        assert figures[f"half/{name}"] == figures[f"half/{name}/edema"] == pytest.approx(51 / 101)
    for name in ("label_ap40", "label_ap50", "chex_map"):
        assert figures[f"half/{name}"] == pytest.approx(51 / 101)
        assert figures[f"half/{name}/edema/low"] is not None
    assert figures["half/voc40"] == pytest.approx(0.5)
    for key in ("half/ap40", "half/ap40/edema"):
        assert (figures[f"{key}/low"], figures[f"{key}/high"]) == pytest.approx(HALF_OF_TWO, abs=0.015)


def test_other_measures_than_ap(tmp_path: Path) -> None:
    """One of two images found; nothing false. RoDeO sees boxes from score .5 on."""
    figures = score(tmp_path, TRUTH, half=[EXACT], late=[EXACT | {"score": 0.4}], none=[])
    for name in ("froc", "corloc", "iou_accuracy20", "iou_accuracy70", "mean_iou", "rodeo"):
        assert figures[f"half/{name}"] == figures[f"half/{name}/edema"] == pytest.approx(0.5)
        ends = (0, 1) if name in ("mean_iou", "rodeo") else HALF_OF_TWO
        for key in (f"half/{name}", f"half/{name}/edema"):
            assert (figures[f"{key}/low"], figures[f"{key}/high"]) == pytest.approx(ends, abs=0.01)
        assert figures[f"half/{name}/nodule_mass"] is figures[f"half/{name}/nodule_mass/low"] is None
        assert figures[f"none/{name}"] == 0.0
    assert figures["late/corloc"] == pytest.approx(0.5)
    assert figures["late/rodeo"] == 0.0
    html = (tmp_path / "out" / "report.html").read_text()
    assert "Other measures" in html
    assert "0.500 [0.000, 1.000]" in html  # RoDeO


def test_several_predictions_are_compared_in_pairs(tmp_path: Path) -> None:
    figures = score(tmp_path, TRUTH, half=[EXACT], none=[])
    assert figures["difference40/half/none"] == pytest.approx(51 / 101)
    # the lower arm of one of two is .473; none of two ends at sin(.378 + 1.96 / sqrt(10))^2 = .706
    assert figures["difference40/half/none/low"] == pytest.approx(51 / 101 - math.hypot(0.473, 0.706), abs=0.02)
    html = (tmp_path / "out" / "report.html").read_text()
    assert "Is the best one better?" in html
    assert "not significant" in html
    assert "excluded: Nodule/Mass" in html


def test_own_files_give_the_figures_of_evaluate(tmp_path: Path) -> None:
    truth, predictions = random_case(3)
    write_coco(tmp_path / "gt.json", truth)
    write_coco(tmp_path / "p.json", predictions)
    figures = score(tmp_path, (tmp_path / "gt.json").read_text(), p=(tmp_path / "p.json").read_text())
    expected = evaluate(truth, predictions)
    assert figures["p/ap40"] == pytest.approx(expected.mean_ap(0.4), abs=1e-4)
    assert figures["p/ap40/class_3"] == pytest.approx(expected.ap(0.4)["class 3"], abs=1e-4)


def full_file(**changes: Any) -> dict[str, Any]:
    """Predictions as a full file whose image and class numbers are not the truth's."""
    content = {
        "images": [{"id": 1, "file_name": "x/b.png"}, {"id": 2, "file_name": "x/a.png"}],
        "categories": [{"id": 1, "name": "Nodule/Mass"}, {"id": 2, "name": "Edema"}],
        "annotations": [EXACT | {"image_id": 2, "category_id": 2, "id": 7}],
    }
    return content | changes


def test_full_prediction_file_goes_by_names_not_numbers(tmp_path: Path) -> None:
    assert score(tmp_path, TRUTH, full=full_file())["full/ap40"] == pytest.approx(51 / 101)


def test_text_ids_and_images_without_a_name(tmp_path: Path) -> None:
    truth = {
        "images": [{"id": "one"}, {"id": "two"}],
        "categories": [{"id": 0, "name": "Edema"}],
        "annotations": [{"image_id": "one", "category_id": 0, "bbox": [10, 20, 100, 40]}],
    }
    pred = [{"image_id": "one", "category_id": 0, "bbox": [10, 20, 100, 40], "score": 1}]
    assert score(tmp_path, truth, p=pred)["p/ap40"] == pytest.approx(1.0)


def test_images_that_share_a_file_name_go_by_id(tmp_path: Path) -> None:
    twins = TRUTH | {"images": [{"id": 11, "file_name": "a.png"}, {"id": 12, "file_name": "a.png"}]}
    assert score(tmp_path, twins, p=[EXACT])["p/ap40"] == pytest.approx(51 / 101)


def test_duplicate_ids_of_predicted_boxes_do_not_matter(tmp_path: Path) -> None:
    pair = [EXACT | {"id": 1}, EXACT | {"id": 1, "image_id": 12, "bbox": [50, 30, 100, 100]}]
    assert score(tmp_path, TRUTH, p=pair)["p/ap40"] == pytest.approx(1.0)


def test_crowd_regions_are_ignored(tmp_path: Path) -> None:
    crowd = {"id": 3, "image_id": 11, "category_id": 5, "bbox": [200, 100, 50, 50], "iscrowd": 1}
    truth = TRUTH | {"annotations": [*TRUTH["annotations"], crowd]}
    on_crowd = EXACT | {"bbox": [200, 100, 50, 50], "score": 1.0}
    assert score(tmp_path, truth, p=[on_crowd, EXACT])["p/ap40"] == pytest.approx(51 / 101)


WRONG_PREDICTIONS = [
    pytest.param("[", "is not JSON", id="not_json"),
    pytest.param({"images": []}, "lacks annotations", id="no_annotations"),
    pytest.param({"annotations": {}}, "annotations are dict, expected a list", id="annotations_no_list"),
    pytest.param([3], "box 1: is int", id="entry_no_mapping"),
    pytest.param([{"bbox": [0, 0, 1, 1]}], "box 1: lacks image_id, category_id, score", id="fields"),
    pytest.param([EXACT | {"image_id": 99}], "image_id is 99, expected an image", id="unknown_image"),
    pytest.param([EXACT | {"image_id": [1]}], r"image_id is \[1\]", id="image_id_a_list"),
    pytest.param([EXACT | {"category_id": 1}], "category_id is 1, expected a class", id="unknown_class"),
    pytest.param([EXACT | {"bbox": [0, 0, NAN, 1]}], "bbox is .*nan", id="nan_box"),
    pytest.param([EXACT | {"bbox": [0, 0, -5, 1]}], "no negative size", id="negative_box"),
    pytest.param([EXACT | {"bbox": [0, 0, 1e300, 1e300]}], "up to 1e\\+07", id="area_overflows"),
    pytest.param("[" * 100_000, "is not JSON", id="too_deep"),
    pytest.param([EXACT | {"bbox": [0, 0, 5]}], "expected x, y, width, height", id="three_numbers"),
    pytest.param([EXACT | {"score": None}], "score is None, expected a finite number", id="no_score"),
    pytest.param([EXACT | {"score": True}], "score is True", id="score_true"),
    pytest.param([EXACT, EXACT | {"image_id": 99}], "box 2:", id="position_is_named"),
    pytest.param([EXACT | {"image_id": 99}] * 14, "4 more problems", id="many_are_counted"),
    pytest.param(
        full_file(images=[{"id": 2, "file_name": "other.png"}]),
        r"no file_name of its images is in the ground truth \(for instance 'other.png'\)",
        id="other_images",
    ),
    pytest.param(
        full_file(categories=[{"id": 2, "name": "Oedema"}]),
        r"class 'Oedema' of 1 boxes .*nearest: 'Edema'",
        id="other_classes",
    ),
    pytest.param(full_file(images=[{"file_name": "x/a.png"}]), r"images\[0\] has no id", id="image_without_id"),
]


@pytest.mark.parametrize(("content", "message"), WRONG_PREDICTIONS)
def test_wrong_predictions_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    truth = read_truth(write(tmp_path, "gt.json", TRUTH))
    path = write(tmp_path, "p.json", content)
    with pytest.raises(UserError, match=message) as refused:
        read_predictions(path, truth)
    assert all(str(path) in problem for problem in refused.value.problems)


WRONG_TRUTHS = [
    pytest.param([EXACT], "lacks annotations, categories, images", id="a_list"),
    pytest.param({"images": [], "annotations": []}, "lacks categories", id="no_categories"),
    pytest.param(TRUTH | {"images": {}}, "images is dict, expected a list", id="images_no_list"),
    pytest.param(TRUTH | {"images": TRUTH["images"] * 2}, "ids must be unique", id="image_twice"),
    pytest.param(TRUTH | {"annotations": [{"image_id": 11, "category_id": 5}]}, "box 1: lacks bbox", id="no_bbox"),
    pytest.param(TRUTH | {"annotations": [EXACT | {"iscrowd": "0"}]}, "box 1: iscrowd is '0'", id="crowd_text"),
]


@pytest.mark.parametrize(("content", "message"), WRONG_TRUTHS)
def test_wrong_truth_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_truth(write(tmp_path, "gt.json", content))


@pytest.mark.parametrize("text", ["file.json", "=file.json", "name=", "a/b=file.json"])
def test_wrong_names_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected NAME=FILE"):
        parse_names([text])


def test_name_given_twice_is_refused_and_an_equals_sign_in_a_path_is_not() -> None:
    with pytest.raises(UserError, match="given twice"):
        parse_names(["a=1.json", "a=2.json"])
    assert parse_names(["a=x=1.json"]) == {"a": Path("x=1.json")}


def test_run_folder_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "started.json", {})
    gt, pred = write(tmp_path, "gt.json", TRUTH), write(tmp_path, "p.json", [])
    assert main(["score", "--gt", str(gt), "--pred", f"p={pred}", "--out", str(tmp_path)]) == 2
    assert "is the folder of a run" in capsys.readouterr().err


def test_command_line_tells_a_mistake_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(RUN), "score", "--gt", "gone.json", "--pred", "a=b.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: COCO: no file gone.json; give a COCO JSON file\n"
    assert list(tmp_path.iterdir()) == []


def test_same_files_give_the_same_figures(tmp_path: Path) -> None:
    truth, predictions = random_case(1, num_images=8)
    write_coco(tmp_path / "gt.json", truth)
    write_coco(tmp_path / "p.json", predictions)
    texts = (tmp_path / "gt.json").read_text(), (tmp_path / "p.json").read_text()
    assert score(tmp_path, texts[0], p=texts[1]) == score(tmp_path, texts[0], p=texts[1])


def test_coco_boxes_without_an_image_can_be_written_and_scored(tmp_path: Path) -> None:
    write_coco(tmp_path / "gt.json", coco_boxes([], images=()))
    figures = score(tmp_path, (tmp_path / "gt.json").read_text(), none=[])
    assert figures["none/ap40"] is None


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(TRUTH), encoding="utf-8-sig")
    assert read_truth(path).classes == read_truth(write(tmp_path, "plain.json", TRUTH)).classes


def test_boxes_on_an_unknown_image_name_its_file(tmp_path: Path) -> None:
    truth = read_truth(write(tmp_path, "gt.json", TRUTH))
    images = [*full_file()["images"], {"id": 99, "file_name": "sub/zzz.png"}]
    stray = full_file()["annotations"][0] | {"image_id": 99}
    content = full_file(images=images, annotations=[*full_file()["annotations"], stray])
    with pytest.raises(UserError, match=r"boxes on image 'sub/zzz\.png'"):
        read_predictions(write(tmp_path, "p.json", content), truth)


def masked(segmentation: object) -> dict[str, object]:
    """TRUTH with sizes of images, and this mask of its first box."""
    first, *others = TRUTH["annotations"]
    images = [image | {"width": 300, "height": 200} for image in TRUTH["images"]]
    return TRUTH | {"images": images, "annotations": [first | {"segmentation": segmentation}, *others]}


def test_masks_of_the_truth(tmp_path: Path) -> None:
    assert not [name for name in score(tmp_path, masked([]), half=[EXACT]) if "mask_iou" in name]
    x, y, width, height = TRUTH["annotations"][0]["bbox"]
    upper = [x, y, x + width, y, x + width, y + height / 2, x, y + height / 2]
    figures = score(tmp_path, masked([upper]), half=[EXACT])
    assert figures["half/mask_iou"] == figures["half/mask_iou/edema"] == pytest.approx(0.5)
    assert "mask IoU" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("segmentation", ["mask", [[1, 2]], {"size": [1, 1], "counts": "1"}, {"size": 3}, 7])
def test_masks_that_are_none_are_refused(tmp_path: Path, segmentation: object) -> None:
    truth, found = write(tmp_path, "gt.json", masked(segmentation)), write(tmp_path, "found.json", [EXACT])
    arguments = ["score", "--gt", str(truth), "--pred", f"x={found}", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2

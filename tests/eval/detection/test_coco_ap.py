"""eval.detection.coco_ap, eval.detection.voc: exact AP on tiny cases, then pycocotools itself as the oracle."""

import contextlib
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cxr.coco import CocoBoxes, boxes_table
from cxr.config import UserError
from eval.detection.average_precision import average_precision
from eval.detection.coco_ap import COCO_IOUS, IOUS, evaluate
from eval.detection.localization import ap_measure
from eval.detection.voc import voc_ap, voc_mean, voc_measure
from tests.eval.detection.box_builders import Row, coco_boxes, duplicated, random_case, without_ties

NAN = float("nan")

TRUE_A = ("a", "Edema", 10, 20, 110, 60, NAN)
TRUE_B = ("b", "Edema", 50, 30, 150, 130, NAN)
EXACT_A = ("a", "Edema", 10, 20, 110, 60, 0.9)
EXACT_B = ("b", "Edema", 50, 30, 150, 130, 0.5)
WRONG_A = ("a", "Edema", 200, 100, 250, 150, 0.7)

CASES = [
    pytest.param([TRUE_A], [], 0.0, id="no_predictions"),
    pytest.param([], [EXACT_A], NAN, id="no_true_boxes"),
    pytest.param([], [], NAN, id="nothing_at_all"),
    pytest.param([TRUE_A, TRUE_B], [EXACT_A, EXACT_B], 1.0, id="perfect"),
    pytest.param([TRUE_A, TRUE_B], [EXACT_A], 51 / 101, id="half_found"),
    # recall .5 at precision 1, recall 1 at precision 2/3: 51 levels of 1, 50 of 2/3
    pytest.param([TRUE_A, TRUE_B], [EXACT_A, WRONG_A, EXACT_B], (51 + 100 / 3) / 101, id="one_wrong"),
    pytest.param([TRUE_A], [EXACT_A, EXACT_A], 1.0, id="duplicate_after_recall_1"),
    pytest.param([TRUE_A], [WRONG_A, (*EXACT_A[:6], 0.1)], 0.5, id="wrong_one_first"),
]


@pytest.mark.parametrize(("true", "found", "expected"), CASES)
def test_ap_exact_value(true: list[Row], found: list[Row], expected: float) -> None:
    result = evaluate(coco_boxes(true), coco_boxes(found))
    assert result.ap(0.4)["Edema"] == pytest.approx(expected, nan_ok=True)
    assert result.mean_ap(0.4) == pytest.approx(expected, nan_ok=True)
    assert result.mean_ap5095() == pytest.approx(expected, nan_ok=True)


def test_truth_without_any_image() -> None:
    result = evaluate(coco_boxes([], images=()), coco_boxes([], images=()))
    assert np.isnan(result.mean_ap(0.4))
    assert result.image_ids == ()


def test_truth_without_any_class() -> None:
    result = evaluate(coco_boxes([], findings=()), coco_boxes([], findings=()))
    assert np.isnan(result.mean_ap(0.4))


def test_class_without_true_box_is_left_out_of_the_mean_and_named() -> None:
    findings = ("Edema", "Fracture")
    true = coco_boxes([TRUE_A, TRUE_B], findings=findings)
    found = coco_boxes([EXACT_A, ("a", "Fracture", 0, 0, 9, 9, 0.8)], findings=findings)
    result = evaluate(true, found)
    assert result.left_out == ("Fracture",)
    assert result.ap(0.4) == pytest.approx({"Edema": 51 / 101, "Fracture": NAN}, nan_ok=True)
    assert result.mean_ap(0.4) == pytest.approx(51 / 101)


def test_iou_threshold_is_inclusive() -> None:
    half = ("a", "Edema", 10, 20, 60, 60, 0.9)  # half of TRUE_A: IoU exactly .5
    result = evaluate(coco_boxes([TRUE_A]), coco_boxes([half]))
    assert [result.mean_ap(iou) for iou in (0.4, 0.5, 0.55)] == pytest.approx([1.0, 1.0, 0.0])
    assert result.mean_ap5095() == pytest.approx(0.1)


def test_only_the_100_best_detections_of_an_image_count() -> None:
    wrong = [("a", "Edema", 200, 100, 250, 150, 0.9)] * 100
    result = evaluate(coco_boxes([TRUE_A]), coco_boxes([*wrong, (*EXACT_A[:6], 0.1)]))
    assert result.mean_ap(0.4) == 0.0


def test_crowd_region_is_neither_right_nor_wrong() -> None:
    true = boxes_table([TRUE_A, ("a", "Edema", 200, 100, 250, 150, NAN)])
    true["iscrowd"] = [0, 1]
    truth = coco_boxes([]).with_boxes(true)
    late = coco_boxes([WRONG_A, (*EXACT_A[:6], 0.1)])
    result = evaluate(truth, late)
    assert result.mean_ap(0.4) == pytest.approx(1.0)
    assert average_precision(result.matches[0], 0.4)[0] == pytest.approx(1.0)


def test_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(coco_boxes([TRUE_A]), coco_boxes([EXACT_A]))
    assert capsys.readouterr().out == ""


def test_threshold_that_was_not_asked_for_is_an_error() -> None:
    result = evaluate(coco_boxes([TRUE_A]), coco_boxes([EXACT_A]), ious=(0.4,))
    with pytest.raises(ValueError, match=r"0\.5"):
        result.ap(0.5)


REFUSED = [
    (("z", "Edema", 0, 0, 9, 9, 0.5), "1 images that the truth does not have: z"),
    (("a", "Fracture", 0, 0, 9, 9, 0.5), "1 classes that the truth does not have: Fracture"),
    (("a", "Edema", 0, 0, 9, 9, NAN), "finite score"),
]


@pytest.mark.parametrize(("row", "message"), REFUSED)
def test_predictions_that_cannot_be_scored_are_refused(row: Row, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(coco_boxes([TRUE_A]), coco_boxes([row]))


def oracle(truth: CocoBoxes, predictions: CocoBoxes) -> np.ndarray:
    """(T, K) AP straight from pycocotools, with its own loading of results; NaN without truth."""
    number = {name: i for i, name in enumerate(truth.images["image_id"], start=7)}
    category = {name: k for k, name in enumerate(truth.findings, start=3)}

    def rows(boxes: pd.DataFrame) -> list[dict[str, object]]:
        return [
            {
                "image_id": number[b.image_id],
                "category_id": category[b.finding],
                "bbox": [b.x1, b.y1, b.x2 - b.x1, b.y2 - b.y1],
                "score": b.score,
            }
            for b in boxes.itertuples()
        ]

    gt = COCO()
    true_rows = [r | {"id": i, "area": 1.0, "iscrowd": 0} for i, r in enumerate(rows(truth.boxes), start=1)]
    gt.dataset = {
        "info": {},
        "images": [{"id": i} for i in number.values()],
        "categories": [{"id": k, "name": n} for n, k in category.items()],
        "annotations": true_rows,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        gt.createIndex()
        coco_eval = COCOeval(gt, gt.loadRes(rows(predictions.boxes)), "bbox")
        coco_eval.params.iouThrs = np.array(IOUS)
        coco_eval.evaluate()
        coco_eval.accumulate()
    precision = coco_eval.eval["precision"][:, :, :, 0, -1]
    return np.where(precision < 0, np.nan, precision).mean(axis=1)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_pycocotools(seed: int) -> None:
    truth, predictions = random_case(seed)
    np.testing.assert_allclose(evaluate(truth, predictions).table, oracle(truth, predictions), atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_stored_matches_give_the_same_ap_without_matching_again(seed: int) -> None:
    result = evaluate(*random_case(seed))
    again = [[average_precision(m, iou)[0] for m in result.matches] for iou in IOUS]
    np.testing.assert_allclose(again, result.table, atol=1e-9)


def test_means_leave_out_the_class_without_truth() -> None:
    result = evaluate(*random_case(0))
    assert result.left_out == ("class 0",)
    assert result.mean_ap(0.5) == pytest.approx(np.mean(list(result.ap(0.5).values())[1:]))
    rows = [IOUS.index(iou) for iou in COCO_IOUS]
    assert result.mean_ap5095() == pytest.approx(np.nanmean(result.table[rows]))


CORNER = st.integers(0, 40)
BOX = st.tuples(CORNER, CORNER, st.integers(1, 30), st.integers(1, 20)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["Edema", "Fracture"]), BOX, st.integers(0, 4)),
    max_size=12,
)


@given(ROWS, ROWS)
@settings(max_examples=60, deadline=None)
def test_agrees_with_pycocotools_whatever_the_boxes(true: list[Any], found: list[Any]) -> None:
    """Crowded, with ties of score and of overlap; pycocotools refuses an empty list of results."""
    found = [*found, ("c", "Edema", (200, 100, 210, 105), 0)]
    kinds = {"images": ["a", "b", "c", "d"], "findings": ("Edema", "Fracture")}
    truth = coco_boxes([(image, finding, *box, NAN) for image, finding, box, _ in true], **kinds)
    predictions = coco_boxes([(image, finding, *box, s / 4) for image, finding, box, s in found], **kinds)
    expected, result = oracle(truth, predictions), evaluate(truth, predictions)
    np.testing.assert_allclose(result.table, expected, atol=1e-9)
    again = [ap_measure(result.matches, iou).values(4) for iou in IOUS]
    np.testing.assert_allclose(again, expected, atol=1e-9)


VOC_CASES = [
    pytest.param([TRUE_A], [], 0.0, id="no_predictions"),
    pytest.param([], [EXACT_A], NAN, id="no_true_boxes"),
    pytest.param([TRUE_A, TRUE_B], [EXACT_A], 0.5, id="half_found_is_half_exactly"),
    pytest.param([TRUE_A, TRUE_B], [EXACT_A, WRONG_A, EXACT_B], 0.5 + 1 / 3, id="one_wrong"),
    pytest.param([TRUE_A, TRUE_B], [EXACT_A, EXACT_A, EXACT_B], 0.5 + 1 / 3, id="duplicate_is_wrong"),
]


@pytest.mark.parametrize(("true", "found", "expected"), VOC_CASES)
def test_voc_ap_exact_value(true: list[Row], found: list[Row], expected: float) -> None:
    aps = voc_ap(coco_boxes(true), coco_boxes(found))
    assert aps["Edema"] == pytest.approx(expected, nan_ok=True)
    assert voc_mean(aps) == pytest.approx(expected, nan_ok=True)


def test_voc_does_not_fall_back_to_the_second_best_box() -> None:
    """Two true boxes overlap; both detections prefer the first: COCO counts two hits, VOC one."""
    true = [("a", "Edema", 0, 0, 100, 50, NAN), ("a", "Edema", 0, 0, 100, 30, NAN)]
    found = [("a", "Edema", 0, 0, 100, 50, 0.9), ("a", "Edema", 0, 0, 100, 45, 0.8)]
    assert evaluate(coco_boxes(true), coco_boxes(found)).mean_ap(0.4) == pytest.approx(1.0)
    assert voc_ap(coco_boxes(true), coco_boxes(found))["Edema"] == pytest.approx(0.5)


def test_voc_counts_what_lies_in_an_ignore_region_neither_as_right_nor_as_wrong() -> None:
    """The wrong box lies in the region; of a box 40 % inside it is left out as well, of one 39 % inside it is not."""
    true = boxes_table([TRUE_A, ("a", "Edema", 200, 100, 250, 150, NAN)])
    truth = coco_boxes([]).with_boxes(true.assign(iscrowd=[0, 1]))
    late = (*EXACT_A[:6], 0.1)
    assert voc_ap(truth, coco_boxes([WRONG_A, late]))["Edema"] == 1
    for right, expected in ((220, 1), (219.5, 0.5)):
        partly = ("a", "Edema", right - 50, 100, right, 150, 0.9)
        assert voc_ap(truth, coco_boxes([partly, late]))["Edema"] == expected
    assert np.isnan(
        voc_ap(coco_boxes([]).with_boxes(true[1:].assign(iscrowd=1)), coco_boxes([late]))["Edema"]
    )


def test_voc_measure_of_a_resample_is_that_of_the_drawn_images() -> None:
    truth, predictions = random_case(4, num_images=9)
    predictions = without_ties(predictions)
    counts = np.array([[1] * 9, [0, 2, 1, 3, 0, 0, 1, 1, 1], [0] * 9])
    values = voc_measure(truth, predictions).resampled(counts)
    assert np.isnan(values[2]).all()
    for row, drawn in zip(values[:2], counts, strict=False):
        expected = voc_ap(duplicated(truth, drawn), duplicated(predictions, drawn))
        np.testing.assert_allclose(row, list(expected.values()), atol=1e-12)

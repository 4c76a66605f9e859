"""COCO's AP: exact values on tiny cases, pycocotools as the reference, and AP of re-weighted images."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr.coco import CocoBoxes, boxes_table
from cxr.config import UserError
from eval.detection.average_precision import (
    RECALLS,
    ap5095_measure,
    ap_measure,
    evaluate,
    label_ap_measure,
    levels_reached,
    main_ap_measure,
)
from eval.detection.indexed import IndexedDetections
from eval.detection.matching import COCO_IOUS, IOUS, ClassMatches
from eval.stats.bootstrap import resample_counts
from eval.stats.measures import Bootstrapped, bootstrap, difference
from tests.eval.detection.box_builders import NAN, Row, coco_boxes, duplicated, random_case, without_ties
from tests.eval.detection.coco_reference import reference_ap

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


def test_class_without_true_box_is_excluded_from_the_mean() -> None:
    findings = ("Edema", "Fracture")
    true = coco_boxes([TRUE_A, TRUE_B], findings=findings)
    found = coco_boxes([EXACT_A, ("a", "Fracture", 0, 0, 9, 9, 0.8)], findings=findings)
    result = evaluate(true, found)
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


def label_ap(true: CocoBoxes, found: CocoBoxes) -> np.ndarray:
    measure = label_ap_measure(IndexedDetections(true, found).matches, 0.4)
    assert measure.name == "label_ap40"
    return measure.values(len(true.images))


def test_label_conditioned_ap_does_not_see_images_without_the_class() -> None:
    """Best box in an image without the class: it halves AP and does not count where the label is known."""
    elsewhere = coco_boxes([("b", "Edema", 0, 0, 9, 9, 0.95), EXACT_A])
    assert main_ap_measure(coco_boxes([TRUE_A]), elsewhere).values(2).tolist() == [0.5]
    assert label_ap(coco_boxes([TRUE_A]), elsewhere).tolist() == [1]
    assert label_ap(coco_boxes([TRUE_A]), coco_boxes([WRONG_A, EXACT_A])).tolist() == [1]
    assert label_ap(coco_boxes([TRUE_A]), coco_boxes([(*WRONG_A[:6], 1.0), EXACT_A])).tolist() == [0.5]
    assert label_ap(coco_boxes([TRUE_A]), coco_boxes([])).tolist() == [0]
    assert np.isnan(label_ap(coco_boxes([]), elsewhere)).all()


def test_an_ignore_region_alone_is_no_label() -> None:
    region = coco_boxes([]).with_boxes(boxes_table([TRUE_A, TRUE_B]).assign(iscrowd=[0, 1]))
    assert label_ap(region, coco_boxes([("b", "Edema", 200, 100, 250, 150, 0.95), EXACT_A])).tolist() == [1]


def test_label_conditioned_ap_is_the_ap_of_the_images_with_the_class() -> None:
    truth, found = random_case(5)
    values = label_ap(truth, found)
    for k, finding in enumerate(truth.findings):
        ids = truth.boxes.loc[truth.boxes["finding"] == finding, "image_id"]
        kept = found.boxes[found.boxes["image_id"].isin(ids)]
        assert evaluate(truth, truth.with_boxes(kept)).ap(0.4)[finding] == pytest.approx(values[k], nan_ok=True)


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


def table(truth: CocoBoxes, predictions: CocoBoxes) -> np.ndarray:
    """(T, K) AP."""
    result = evaluate(truth, predictions)
    return np.array([list(result.ap(iou).values()) for iou in IOUS])


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_pycocotools(seed: int) -> None:
    truth, predictions = random_case(seed)
    np.testing.assert_allclose(table(truth, predictions), reference_ap(truth, predictions), atol=1e-12)


def test_means_leave_out_the_class_without_truth() -> None:
    result = evaluate(*random_case(0))
    assert result.mean_ap(0.5) == pytest.approx(np.mean(list(result.ap(0.5).values())[1:]))
    means = [result.mean_ap(iou) for iou in COCO_IOUS]
    assert result.mean_ap5095() == pytest.approx(np.mean(means))


CORNER = st.integers(0, 40)
BOX = st.tuples(CORNER, CORNER, st.integers(1, 30), st.integers(1, 20)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["Edema", "Fracture"]), BOX, st.integers(0, 4)), max_size=12
)


@given(ROWS, ROWS)
@settings(max_examples=60, deadline=None)
def test_agrees_with_pycocotools_whatever_the_boxes(true: list[Any], found: list[Any]) -> None:
    """Crowded, with ties of score and of overlap."""
    kinds = {"images": ["a", "b", "c", "d"], "findings": ("Edema", "Fracture")}
    truth = coco_boxes([(image, finding, *box, NAN) for image, finding, box, _ in true], **kinds)
    predictions = coco_boxes([(image, finding, *box, s / 4) for image, finding, box, s in found], **kinds)
    np.testing.assert_allclose(table(truth, predictions), reference_ap(truth, predictions), atol=1e-9)


def one_class(hits: list[int], images: list[int], num_true: list[int]) -> ClassMatches:
    """Detections by falling score, matched at IoU .4."""
    num = len(hits)
    return ClassMatches(
        finding="Edema",
        ious=(0.4,),
        scores=np.linspace(1, 0.1, num),
        image=np.array(images, dtype=np.int64),
        hit=np.array([hits], dtype=bool).reshape(1, num),
        ignored=np.zeros((1, num), dtype=bool),
        num_true=np.array(num_true, dtype=np.int64),
    )


WEIGHTED = [
    pytest.param([1, 1], 51 / 101, id="as_it_is"),
    pytest.param([2, 0], 1.0, id="only_the_found"),
    pytest.param([0, 2], 0.0, id="only_the_missed"),
    # 3 of 4 true boxes found at precision 1: recall levels 0 to .75
    pytest.param([3, 1], 76 / 101, id="uneven"),
]


@pytest.mark.parametrize(("counts", "expected"), WEIGHTED)
def test_weighted_ap_exact_value(counts: list[int], expected: float) -> None:
    matches = one_class([1, 0], [0, 1], [1, 1])
    assert ap_measure([matches], 0.4).resampled(np.array([counts]))[0, 0] == pytest.approx(expected)


def test_resample_without_true_box_has_no_ap() -> None:
    matches = one_class([1], [0], [1, 0])
    aps = ap_measure([matches], 0.4).resampled(np.array([[0, 2], [1, 1]]))[:, 0]
    np.testing.assert_array_equal(aps, [np.nan, 1.0])


def test_no_detections() -> None:
    aps = ap_measure([one_class([], [], [1, 0])], 0.4).resampled(np.array([[1, 1], [0, 2]]))[:, 0]
    np.testing.assert_array_equal(aps, [0.0, np.nan])


def test_reweighting_equals_pycocotools_on_the_drawn_images() -> None:
    truth, predictions = random_case(5, num_images=12, num_classes=4)
    predictions = without_ties(predictions)
    counts = resample_counts(list(truth.images["image_id"]), num_resamples=5, seed=1)
    fast = main_ap_measure(truth, predictions).resampled(counts)
    for row, drawn in zip(fast, counts, strict=True):
        slow = reference_ap(duplicated(truth, drawn), duplicated(predictions, drawn), (0.4,))
        np.testing.assert_allclose(row, slow[0], atol=1e-9)


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predictions = random_case(6)
    measure = main_ap_measure(truth, predictions)
    counts = resample_counts(list(truth.images["image_id"]), num_resamples=50)
    whole = measure.resampled(counts)
    monkeypatch.setattr("eval.stats.bootstrap.MAX_CELLS", 100)
    np.testing.assert_array_equal(whole, measure.resampled(counts))


def searched_ap(matches: ClassMatches, counts: np.ndarray) -> np.ndarray:
    """The plain way: every detection of every resample, recalls looked up one by one."""
    order = np.argsort(-matches.scores, kind="stable")
    weight, is_hit = counts[:, matches.image[order]], matches.hit[0][order]
    num_true = counts @ matches.num_true
    hits = np.cumsum(weight * is_hit, axis=1)
    precision = hits / np.maximum(np.cumsum(weight, axis=1), 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    rows = zip(envelope, hits / np.maximum(num_true, 1)[:, None], strict=True)
    steps = [np.append(e, 0)[np.searchsorted(recall, RECALLS, side="left")].mean() for e, recall in rows]
    return np.where(num_true > 0, steps, np.nan)


@pytest.mark.parametrize("seed", range(5))
def test_sums_between_hits_equal_the_plain_way(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_images, num = 37, 400
    image, hit = np.sort(rng.integers(num_images, size=num)), rng.uniform(size=num) < 0.04
    found = np.bincount(image[hit], minlength=num_images)
    matches = dataclasses.replace(
        one_class([], [], (found + rng.integers(2, size=num_images)).tolist()),
        scores=rng.permutation(num) / num,
        image=image,
        hit=hit[None],
        ignored=np.zeros((1, num), dtype=bool),
    )
    counts = resample_counts([str(i) for i in range(num_images)], num_resamples=150, seed=seed)
    np.testing.assert_allclose(
        ap_measure([matches], 0.4).resampled(counts)[:, 0], searched_ap(matches, counts), atol=1e-12
    )


def test_levels_reached_are_those_of_a_search() -> None:
    """At every recall hits / true, also on a level: 29 / 100 is below COCO's level .29, which is rounded up."""
    for num_true in [*range(1, 400), 1000, 9700]:
        hits = np.arange(num_true + 1)
        found = levels_reached(hits, np.full(num_true + 1, num_true))
        np.testing.assert_array_equal(found, np.searchsorted(RECALLS, hits / num_true, side="right"))


def ap40_of(truth: CocoBoxes, predictions: CocoBoxes, num_resamples: int = 50) -> Bootstrapped:
    counts = resample_counts(list(truth.images["image_id"]), num_resamples=num_resamples)
    return bootstrap(main_ap_measure(truth, predictions), counts)


def test_interval_encloses_the_estimate_and_narrows_with_more_images() -> None:
    widths = []
    for num_images in (12, 96):
        result = ap40_of(*random_case(8, num_images=num_images, num_classes=3), num_resamples=300)
        interval = result.mean_interval
        assert interval.low < result.mean < interval.high
        widths.append(interval.high - interval.low)
    assert widths[1] < 0.6 * widths[0]


def test_class_without_truth_has_no_interval() -> None:
    result = ap40_of(*random_case(2))
    empty, full = result.interval("class 0"), result.interval("class 1")
    assert np.isnan(empty.low)
    assert full.low < full.high


def test_difference_of_a_set_with_itself_is_nothing() -> None:
    result = ap40_of(*random_case(1))
    gap = difference(result, result)
    assert (gap.value, gap.low, gap.high) == (0.0, 0.0, 0.0)
    assert not gap.is_clear


def test_difference_is_paired() -> None:
    """One set is the other with some boxes lost: significantly worse, though the intervals overlap."""
    truth, predictions = random_case(9, num_images=40)
    fewer = predictions.with_boxes(predictions.boxes[predictions.boxes.index % 6 != 0])
    better, worse = (ap40_of(truth, p, num_resamples=300) for p in (predictions, fewer))
    assert better.mean_interval.low < worse.mean_interval.high
    gap = difference(better, worse)
    assert gap.value == pytest.approx(better.mean - worse.mean)
    assert gap.is_clear
    assert gap.low > 0


def test_boxes_of_a_single_patient_have_no_interval() -> None:
    truth, predictions = random_case(1)
    counts = resample_counts(["p1"] * len(truth.images))
    result = bootstrap(main_ap_measure(truth, predictions), counts)
    assert np.isnan(result.mean_interval.low)
    gap = difference(result, result)
    assert gap.value == 0.0
    assert not gap.is_clear


def test_measures_have_names_and_ap5095_is_the_mean_over_thresholds() -> None:
    truth, found = random_case(1)
    result = evaluate(truth, found)
    assert [ap_measure(result.matches, iou).name for iou in (0.1, 0.4)] == ["ap10", "ap40"]
    counts = resample_counts(result.image_ids, num_resamples=7)
    expected = np.mean([ap_measure(result.matches, iou).resampled(counts) for iou in COCO_IOUS], axis=0)
    np.testing.assert_allclose(ap5095_measure(result.matches).resampled(counts), expected)

"""eval.detection.localization, eval.detection.overlaps: one place an image by hand, then brute force as the oracle."""

import numpy as np
import pandas as pd
import pytest

from cxr.boxes import iobb_pairs, iou_pairs
from cxr.coco import CocoBoxes, boxes_table
from cxr.config import UserError
from eval.detection.average_precision import ap5095_measure, ap_measure
from eval.detection.indexed import IndexedDetections, TruthIndex
from eval.detection.localization import (
    accuracy_measure,
    corloc_measure,
    max_box_accuracy_measure,
    mean_iou_measure,
    pointing_measure,
)
from eval.stats.bootstrap import resample_counts
from eval.stats.measures import Measure
from tests.eval.detection.box_builders import Row, coco_boxes, random_case

NAN = float("nan")
TRUE_A = ("a", "Edema", 10, 20, 110, 60, NAN)
TRUE_B = ("b", "Edema", 50, 30, 150, 130, NAN)
EXACT_A = ("a", "Edema", 10, 20, 110, 60, 0.9)
HALF_A = ("a", "Edema", 10, 20, 60, 60, 0.9)  # IoU .5, IoBB 1
WIDE_A = ("a", "Edema", 10, 20, 210, 60, 0.9)  # IoU .5, IoBB .5
WRONG_A = ("a", "Edema", 200, 100, 250, 150, 0.7)
EXACT_B = ("b", "Edema", 50, 30, 150, 130, 0.5)


def value(measure: Measure, *, num_images: int = 2) -> float:
    return float(measure.values(num_images)[0])


CORLOC = [
    pytest.param([TRUE_A], [], 0.0, id="no_predictions"),
    pytest.param([], [EXACT_A], NAN, id="no_true_boxes"),
    pytest.param([], [], NAN, id="nothing_at_all"),
    pytest.param([TRUE_A, TRUE_B], [EXACT_A], 0.5, id="image_without_a_box_is_wrong"),
    pytest.param([TRUE_A], [EXACT_A, EXACT_B], 1.0, id="image_without_the_class_does_not_count"),
    pytest.param([TRUE_A], [HALF_A], 1.0, id="half_is_enough"),
    pytest.param([TRUE_A], [WRONG_A, (*EXACT_A[:6], 0.6)], 0.0, id="only_the_best_scored_box_counts"),
    pytest.param([TRUE_A], [EXACT_A, (*WRONG_A[:6], 0.9)], 1.0, id="first_of_equal_scores"),
    pytest.param([("a", "Edema", 0, 0, 9, 9, NAN), TRUE_A], [EXACT_A], 1.0, id="any_true_box"),
]


@pytest.mark.parametrize(("true", "found", "expected"), CORLOC)
def test_corloc_exact_value(true: list[Row], found: list[Row], expected: float) -> None:
    measure = corloc_measure(IndexedDetections(coco_boxes(true), coco_boxes(found)))
    assert measure.name == "corloc"
    assert value(measure) == pytest.approx(expected, nan_ok=True)


ACCURACIES = [
    pytest.param("iou", 0.5, HALF_A, 0.0, id="iou_must_be_above"),
    pytest.param("iou", 0.49, HALF_A, 1.0, id="iou_above"),
    pytest.param("iobb", 0.99, HALF_A, 1.0, id="a_part_is_all_inside"),
    pytest.param("iobb", 0.5, WIDE_A, 0.0, id="iobb_must_be_above"),
    pytest.param("iobb", 0.49, WIDE_A, 1.0, id="iobb_above"),
    pytest.param("iobb", 0.1, (*TRUE_B[:6], 0.9), 0.0, id="other_image"),
]


@pytest.mark.parametrize(("overlap", "threshold", "found", "expected"), ACCURACIES)
def test_accuracy_exact_value(overlap: str, threshold: float, found: Row, expected: float) -> None:
    measure = accuracy_measure(
        IndexedDetections(coco_boxes([TRUE_A]), coco_boxes([found])), overlap=overlap, threshold=threshold
    )
    assert value(measure) == expected


def test_names_tell_overlap_and_threshold() -> None:
    pair = coco_boxes([TRUE_A]), coco_boxes([])
    assert accuracy_measure(IndexedDetections(*pair), overlap="iobb", threshold=0.1).name == "iobb_accuracy10"
    assert accuracy_measure(IndexedDetections(*pair), overlap="iou", threshold=0.7).name == "iou_accuracy70"


MEAN_IOUS = [
    pytest.param([TRUE_A], [], 0.0, id="no_predictions"),
    pytest.param([], [EXACT_A], NAN, id="no_true_boxes"),
    pytest.param([TRUE_A, TRUE_B], [HALF_A, EXACT_B], 0.75, id="mean_over_images"),
    pytest.param([TRUE_A, TRUE_B], [HALF_A], 0.25, id="image_without_a_box_counts_as_nought"),
    pytest.param([TRUE_A], [EXACT_A, EXACT_B], 1.0, id="image_without_the_class_does_not_count"),
    pytest.param([TRUE_A], [HALF_A, (*EXACT_A[:6], 0.6)], 0.5, id="only_the_best_scored_box_counts"),
]


@pytest.mark.parametrize(("true", "found", "expected"), MEAN_IOUS)
def test_mean_iou_exact_value(true: list[Row], found: list[Row], expected: float) -> None:
    measure = mean_iou_measure(IndexedDetections(coco_boxes(true), coco_boxes(found)))
    assert measure.name == "mean_iou"
    assert value(measure) == pytest.approx(expected, nan_ok=True)


def test_mean_iou_is_the_area_under_the_accuracies() -> None:
    boxes = IndexedDetections(*random_case(1))
    num_images = boxes.true.shape[0]
    middles = (np.arange(400) + 0.5) / 400
    curve = [accuracy_measure(boxes, overlap="iou", threshold=float(t)).values(num_images) for t in middles]
    np.testing.assert_allclose(mean_iou_measure(boxes).values(num_images), np.mean(curve, axis=0), atol=1 / 400)


def points(*rows: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["image_id", "finding", "x", "y"])


POINTING = [
    pytest.param([TRUE_A], [], 0.0, id="no_point_is_a_miss"),
    pytest.param([], [("a", "Edema", 50, 40)], NAN, id="no_true_boxes"),
    pytest.param([TRUE_A], [("a", "Edema", 50, 40)], 1.0, id="inside"),
    pytest.param([TRUE_A], [("a", "Edema", 40, 100)], 0.0, id="x_and_y_are_not_swapped"),
    pytest.param([TRUE_A], [("a", "Edema", 110, 60)], 1.0, id="on_the_edge"),
    pytest.param([TRUE_A], [("a", "Edema", 110.01, 60)], 0.0, id="no_tolerance"),
    pytest.param([TRUE_A], [("a", "Edema", NAN, NAN)], 0.0, id="point_of_nan"),
    pytest.param([TRUE_A, TRUE_B], [("a", "Edema", 50, 40)], 0.5, id="one_of_two_images"),
    pytest.param([("a", "Edema", 0, 0, 9, 9, NAN), TRUE_A], [("a", "Edema", 50, 40)], 1.0, id="any_true_box"),
]


@pytest.mark.parametrize(("true", "rows", "expected"), POINTING)
def test_pointing_exact_value(true: list[Row], rows: list[tuple[object, ...]], expected: float) -> None:
    assert value(pointing_measure(TruthIndex(coco_boxes(true)), points(*rows))) == pytest.approx(expected, nan_ok=True)


REFUSED_POINTS = [
    (points(("z", "Edema", 1, 1)), "1 images that the truth does not have: z"),
    (points(("a", "Mass", 1, 1)), "1 classes that the truth does not have: Mass"),
    (points(("a", "Edema", 1, 1), ("a", "Edema", 2, 2)), "have more than one point, first a, Edema"),
]


@pytest.mark.parametrize(("rows", "message"), REFUSED_POINTS)
def test_wrong_points_are_refused(rows: pd.DataFrame, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pointing_measure(TruthIndex(coco_boxes([TRUE_A])), rows)


def test_predictions_of_unknown_images_are_refused() -> None:
    unknown = coco_boxes([("z", "Edema", 0, 0, 9, 9, 0.5)])
    with pytest.raises(UserError, match="images that the truth does not have"):
        corloc_measure(IndexedDetections(coco_boxes([TRUE_A]), unknown))
    with pytest.raises(UserError, match="images that the truth does not have"):
        max_box_accuracy_measure(TruthIndex(coco_boxes([TRUE_A])), [unknown])


def test_max_box_accuracy_takes_one_threshold_for_all_images() -> None:
    """The low threshold is right in a, the high one in b: half at best, whichever is chosen."""
    truth = coco_boxes([TRUE_A, TRUE_B])
    low, high = coco_boxes([EXACT_A, (*WRONG_A[:6], 0.1)]), coco_boxes([EXACT_B, WRONG_A])
    measure = max_box_accuracy_measure(TruthIndex(truth), [low, high])
    assert measure.name == "maxboxaccv2"
    assert value(measure) == 0.5


def test_max_box_accuracy_chooses_its_threshold_in_each_resample() -> None:
    truth = coco_boxes([TRUE_A, TRUE_B])
    measure = max_box_accuracy_measure(TruthIndex(truth), [coco_boxes([EXACT_A]), coco_boxes([EXACT_B])])
    values = measure.resampled(np.array([[3, 1], [1, 3], [2, 2], [0, 0]]))[:, 0]
    np.testing.assert_array_equal(values, [0.75, 0.75, 0.5, np.nan])


def test_max_box_accuracy_is_the_mean_over_deltas() -> None:
    """IoU .5 reaches the deltas .3 and .5; a threshold is chosen for each delta on its own."""
    assert value(max_box_accuracy_measure(TruthIndex(coco_boxes([TRUE_A])), [coco_boxes([HALF_A])])) == pytest.approx(
        2 / 3
    )
    truth = coco_boxes([TRUE_A, TRUE_B])
    both_half = coco_boxes([HALF_A, ("b", "Edema", 50, 30, 150, 80, 1.0)])
    measure = max_box_accuracy_measure(TruthIndex(truth), [both_half, coco_boxes([EXACT_A])])
    assert value(measure) == pytest.approx((1 + 1 + 0.5) / 3)


def test_max_box_accuracy_without_boxes_or_true_boxes() -> None:
    assert value(max_box_accuracy_measure(TruthIndex(coco_boxes([TRUE_A])), [coco_boxes([])])) == 0.0
    assert np.isnan(value(max_box_accuracy_measure(TruthIndex(coco_boxes([])), [coco_boxes([EXACT_A])])))


def test_crowd_regions_are_no_true_boxes() -> None:
    true = boxes_table([TRUE_A, TRUE_B])
    true["iscrowd"] = [0, 1]
    truth = coco_boxes([]).with_boxes(true)
    assert value(corloc_measure(IndexedDetections(truth, coco_boxes([EXACT_A])))) == 1.0
    assert value(pointing_measure(TruthIndex(truth), points(("b", "Edema", 60, 40)))) == 0.0


def measures(truth: CocoBoxes, found: CocoBoxes) -> list[Measure]:
    boxes = IndexedDetections(truth, found)
    centres = found.boxes.drop_duplicates(["image_id", "finding"])
    centres = centres.assign(x=(centres["x1"] + centres["x2"]) / 2, y=(centres["y1"] + centres["y2"]) / 2)
    return [
        ap_measure(boxes.matches, 0.4),
        ap5095_measure(boxes.matches),
        corloc_measure(boxes),
        accuracy_measure(boxes, overlap="iou", threshold=0.3),
        accuracy_measure(boxes, overlap="iobb", threshold=0.3),
        pointing_measure(boxes.true, centres),
        max_box_accuracy_measure(boxes.true, [found, found.with_boxes(found.boxes[::2])]),
    ]


def test_no_images_and_no_classes() -> None:
    for empty in (coco_boxes([], images=()), coco_boxes([], findings=())):
        for measure in measures(empty, empty):
            values = measure.values(len(empty.images))
            assert values.shape == (len(empty.findings),), measure.name
            assert np.isnan(values).all(), measure.name


def test_resamples_of_every_class_lie_within_bounds() -> None:
    truth, found = random_case(5, num_images=30)
    counts = resample_counts(list(truth.images["image_id"]), num_resamples=40)
    for measure in measures(truth, found):
        values = measure.resampled(counts)
        assert values.shape == (40, 6), measure.name
        assert np.isnan(values[:, 0]).all(), measure.name
        assert ((values[:, 1:] >= 0) & (values[:, 1:] <= 1)).all(), measure.name


def test_images_without_the_class_change_ap_alone() -> None:
    """A false alarm in image b, drawn never or nine times."""
    truth, found = coco_boxes([TRUE_A]), coco_boxes([(*EXACT_A[:6], 0.4), EXACT_B])
    ap, *_, place = (m.resampled(np.array([[1, 0], [1, 9]]))[:, 0].tolist() for m in measures(truth, found))
    assert ap == pytest.approx([1.0, 0.1])
    assert place == [1.0, 1.0]


def brute_force(truth: CocoBoxes, found: CocoBoxes, *, overlap: str) -> dict[str, list[float]]:
    """Overlap of the best-scored box of every image with the class, image by image."""
    overlap_of = {"iou": iou_pairs, "iobb": iobb_pairs}[overlap]
    corners = ["x1", "y1", "x2", "y2"]
    overlaps: dict[str, list[float]] = {finding: [] for finding in truth.findings}
    for (image, finding), true in truth.boxes.groupby(["image_id", "finding"]):
        own = found.boxes[(found.boxes["image_id"] == image) & (found.boxes["finding"] == finding)]
        best = own.sort_values("score", ascending=False, kind="stable")[:1]
        pairs = [overlap_of(best[corners].to_numpy(float), box) for box in true[corners].to_numpy(float)]
        overlaps[finding].append(float(np.max(pairs)) if len(best) else -1.0)
    return overlaps


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("overlap", ["iou", "iobb"])
def test_agrees_with_brute_force(seed: int, overlap: str) -> None:
    truth, found = random_case(seed, num_images=20)
    overlaps = brute_force(truth, found, overlap=overlap)
    for threshold in (0.1, 0.3, 0.5, 0.7):
        measure = accuracy_measure(IndexedDetections(truth, found), overlap=overlap, threshold=threshold)
        expected = [np.mean(np.array(o) > threshold) if o else NAN for o in overlaps.values()]
        np.testing.assert_allclose(measure.values(20), expected)

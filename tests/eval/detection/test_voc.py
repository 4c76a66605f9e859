"""VOC's AP: exact values on tiny cases, ignore regions, and resamples."""

import numpy as np
import pytest

from cxr.coco import CocoBoxes, boxes_table
from eval.detection.average_precision import evaluate
from eval.detection.indexed import IndexedDetections
from eval.detection.voc import voc_measure
from tests.eval.detection.box_builders import NAN, Row, coco_boxes, duplicated, random_case, without_ties

TRUE_A = ("a", "Edema", 10, 20, 110, 60, NAN)
TRUE_B = ("b", "Edema", 50, 30, 150, 130, NAN)
EXACT_A = ("a", "Edema", 10, 20, 110, 60, 0.9)
EXACT_B = ("b", "Edema", 50, 30, 150, 130, 0.5)
WRONG_A = ("a", "Edema", 200, 100, 250, 150, 0.7)


def ap(truth: CocoBoxes, predictions: CocoBoxes) -> dict[str, float]:
    measure = voc_measure(IndexedDetections(truth, predictions))
    return dict(zip(measure.findings, measure.values(len(truth.images)).tolist(), strict=True))


VOC_CASES = [
    pytest.param([TRUE_A], [], 0.0, id="no_predictions"),
    pytest.param([], [EXACT_A], NAN, id="no_true_boxes"),
    pytest.param([TRUE_A, TRUE_B], [EXACT_A], 0.5, id="half_found_is_half_exactly"),
    pytest.param([TRUE_A, TRUE_B], [EXACT_A, WRONG_A, EXACT_B], 0.5 + 1 / 3, id="one_wrong"),
    pytest.param([TRUE_A, TRUE_B], [EXACT_A, EXACT_A, EXACT_B], 0.5 + 1 / 3, id="duplicate_is_wrong"),
]


@pytest.mark.parametrize(("true", "found", "expected"), VOC_CASES)
def test_voc_ap_exact_value(true: list[Row], found: list[Row], expected: float) -> None:
    aps = ap(coco_boxes(true), coco_boxes(found))
    assert aps["Edema"] == pytest.approx(expected, nan_ok=True)


def test_voc_does_not_fall_back_to_the_second_best_box() -> None:
    """Two true boxes overlap; both detections prefer the first: COCO counts two hits, VOC one."""
    true = [("a", "Edema", 0, 0, 100, 50, NAN), ("a", "Edema", 0, 0, 100, 30, NAN)]
    found = [("a", "Edema", 0, 0, 100, 50, 0.9), ("a", "Edema", 0, 0, 100, 45, 0.8)]
    assert evaluate(coco_boxes(true), coco_boxes(found)).mean_ap(0.4) == pytest.approx(1.0)
    assert ap(coco_boxes(true), coco_boxes(found))["Edema"] == pytest.approx(0.5)


def test_voc_counts_what_lies_in_an_ignore_region_neither_as_right_nor_as_wrong() -> None:
    """The wrong box lies in the region; of a box 40 % inside it is left out as well, of one 39 % inside it is not."""
    true = boxes_table([TRUE_A, ("a", "Edema", 200, 100, 250, 150, NAN)])
    truth = coco_boxes([]).with_boxes(true.assign(iscrowd=[0, 1]))
    late = (*EXACT_A[:6], 0.1)
    assert ap(truth, coco_boxes([WRONG_A, late]))["Edema"] == 1
    for right, expected in ((220, 1), (219.5, 0.5)):
        partly = ("a", "Edema", right - 50, 100, right, 150, 0.9)
        assert ap(truth, coco_boxes([partly, late]))["Edema"] == expected
    assert np.isnan(ap(coco_boxes([]).with_boxes(true[1:].assign(iscrowd=1)), coco_boxes([late]))["Edema"])


def test_voc_measure_of_a_resample_is_that_of_the_drawn_images() -> None:
    truth, predictions = random_case(4, num_images=9)
    predictions = without_ties(predictions)
    counts = np.array([[1] * 9, [0, 2, 1, 3, 0, 0, 1, 1, 1], [0] * 9])
    values = voc_measure(IndexedDetections(truth, predictions)).resampled(counts)
    assert np.isnan(values[2]).all()
    for row, drawn in zip(values[:2], counts, strict=False):
        expected = ap(duplicated(truth, drawn), duplicated(predictions, drawn))
        np.testing.assert_allclose(row, list(expected.values()), atol=1e-12)

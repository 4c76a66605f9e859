"""eval.detection.rodeo: by hand, and the figures that the authors' own program gives."""

import math

import numpy as np
import pandas as pd
import pytest

from cxr.coco import boxes_table
from cxr.config import UserError
from eval.detection.average_precision import evaluate
from eval.detection.indexed import IndexedDetections
from eval.detection.rodeo import f1_thresholds, rodeo_measure
from eval.stats.measures import Measure
from tests.eval.detection.box_builders import NAN, Row, coco_boxes, random_case

KINDS = {"findings": ("Edema", "Fracture")}
TRUE_A = ("a", "Edema", 10, 20, 110, 60, NAN)  # 100 x 40
TRUE_B = ("b", "Edema", 50, 30, 150, 130, NAN)
EXACT_A = ("a", "Edema", 10, 20, 110, 60, 0.9)
EXACT_B = ("b", "Edema", 50, 30, 150, 130, 0.9)
FRACTURE_B = ("b", "Fracture", 50, 30, 150, 130, 0.9)


def harmonic(*parts: float) -> float:
    return len(parts) / sum(1 / part for part in parts)


def edema(true: list[Row], found: list[Row]) -> float:
    """RoDeO of Edema, one of two classes, on two images."""
    return float(rodeo_measure(IndexedDetections(coco_boxes(true, **KINDS), coco_boxes(found, **KINDS))).values(2)[0])


CASES = [
    pytest.param([TRUE_A], [], 0.0, id="no_predictions"),
    pytest.param([], [EXACT_A], NAN, id="no_true_boxes"),
    pytest.param([], [], NAN, id="nothing_at_all"),
    pytest.param([TRUE_A, TRUE_B], [EXACT_A, EXACT_B], 1.0, id="perfect"),
    pytest.param([TRUE_A, TRUE_B], [EXACT_A], 0.5, id="a_missed_box_counts_0_in_all_parts"),
    pytest.param([TRUE_A], [EXACT_A, EXACT_B], 0.5, id="a_false_alarm_counts_0_in_all_parts"),
    pytest.param([TRUE_A], [EXACT_A, EXACT_A], 0.5, id="a_second_box_is_left_over"),
    # one width to the right: 2 ** -1; one height down would be the same
    pytest.param([TRUE_A], [("a", "Edema", 110, 20, 210, 60, 0.9)], harmonic(0.5, 1, 1), id="a_width_away"),
    pytest.param([TRUE_A], [("a", "Edema", 10, 60, 110, 100, 0.9)], harmonic(0.5, 1, 1), id="a_height_away"),
    pytest.param([TRUE_A], [("a", "Edema", 10, 20, 60, 60, 0.9)], harmonic(2 ** -(1 / 16), 0.5, 1), id="half_as_wide"),
    pytest.param([TRUE_A], [("a", "Fracture", 10, 20, 110, 60, 0.9)], 0.0, id="other_class"),
    pytest.param([TRUE_A], [(*EXACT_A[:6], 0.49)], 0.0, id="score_too_low"),
    pytest.param([TRUE_A], [(*EXACT_A[:6], 0.5)], 1.0, id="score_just_enough"),
    pytest.param([("a", "Edema", 10, 20, 10, 60, NAN)], [EXACT_A], 0.0, id="true_box_without_extent"),
]


@pytest.mark.parametrize(("true", "found", "expected"), CASES)
def test_exact_value(true: list[Row], found: list[Row], expected: float) -> None:
    assert edema(true, found) == pytest.approx(expected, nan_ok=True)


def test_classification_is_the_correlation_of_the_pairs() -> None:
    """Of three classes, one pair of two has the right one: (3 x 1/2 - 1) / 2 = 1/4."""
    kinds = {"findings": ("Edema", "Fracture", "Mass")}
    measure = rodeo_measure(
        IndexedDetections(coco_boxes([TRUE_A, TRUE_B], **kinds), coco_boxes([EXACT_A, FRACTURE_B], **kinds))
    )
    np.testing.assert_allclose(measure.values(2), [harmonic(1, 1, 1 / 4), np.nan, np.nan])


def test_a_single_class_is_named_rightly_by_every_pair() -> None:
    measure = rodeo_measure(IndexedDetections(coco_boxes([TRUE_A, TRUE_B]), coco_boxes([EXACT_A])))
    np.testing.assert_allclose(measure.values(2), [0.5])


def test_the_nearest_box_is_paired_and_the_far_one_left_over() -> None:
    far, near = ("a", "Edema", 190, 140, 290, 180, 0.99), ("a", "Edema", 15, 20, 115, 60, 0.6)
    parts = 2 ** -(0.05**2) / 2, 0.5, 0.5
    assert edema([TRUE_A], [far, near]) == pytest.approx(harmonic(*parts))


def test_class_decides_between_boxes_of_much_the_same_place() -> None:
    """Fracture lies exactly on the true Edema, Edema next to it; the classes of the images are mostly right."""
    shifted = ("a", "Edema", 11, 20, 111, 60, 0.9)
    true = coco_boxes([TRUE_A, ("b", "Fracture", 50, 30, 150, 130, NAN)], **KINDS)
    found = coco_boxes([("a", "Fracture", *TRUE_A[2:6], 0.9), shifted, FRACTURE_B], **KINDS)
    # the Fracture in image a is left over, and the one in b is right
    expected = [harmonic(2 ** -(0.01**2), 1, 1), 0.5]
    np.testing.assert_allclose(rodeo_measure(IndexedDetections(true, found)).values(2), expected)


def test_weights_of_images() -> None:
    measure = rodeo_measure(IndexedDetections(coco_boxes([TRUE_A, TRUE_B], **KINDS), coco_boxes([EXACT_A], **KINDS)))
    values = measure.resampled(np.array([[1, 1], [3, 1], [2, 0], [0, 2], [0, 0]]))
    np.testing.assert_allclose(values[:, 0], [0.5, 0.75, 1.0, 0.0, np.nan])
    assert np.isnan(values[:, 1]).all()


def test_scores_of_each_class() -> None:
    true = coco_boxes([TRUE_A, ("b", "Fracture", 50, 30, 150, 130, NAN)], **KINDS)
    found = coco_boxes([(*EXACT_A[:6], 0.2), (*FRACTURE_B[:6], 0.2)], **KINDS)
    assert rodeo_measure(IndexedDetections(true, found), min_score=0.2).values(2).tolist() == [1.0, 1.0]
    assert rodeo_measure(IndexedDetections(true, found), min_score={"Edema": 0.1, "Fracture": 0.3}).values(
        2
    ).tolist() == [1.0, 0.0]
    assert rodeo_measure(IndexedDetections(true, found), min_score={"Edema": 0.1}).values(2).tolist() == [
        1.0,
        0.0,
    ]  # others .5


def test_crowd_regions_are_left_out() -> None:
    true = boxes_table([TRUE_A, TRUE_B])
    true["iscrowd"] = [0, 1]
    measure = rodeo_measure(IndexedDetections(coco_boxes([]).with_boxes(true), coco_boxes([EXACT_A])))
    assert measure.values(2).tolist() == [1.0]


def test_no_images_and_no_classes() -> None:
    for empty in (coco_boxes([], images=()), coco_boxes([], findings=())):
        values = rodeo_measure(IndexedDetections(empty, empty)).values(len(empty.images))
        assert values.shape == (len(empty.findings),)
        assert np.isnan(values).all()


def test_unknown_images_are_refused() -> None:
    with pytest.raises(UserError, match="images that the truth does not have"):
        rodeo_measure(IndexedDetections(coco_boxes([TRUE_A]), coco_boxes([("z", "Edema", 0, 0, 9, 9, 0.5)])))


AUTHORS = {
    # rodeometric 0.0.1 on these cases: the total, and classes 1 to 3 (class 0 has no true box)
    0: (0.42799657593587725, [0.3350448141652881, 0.483180621460429, 0.49863302456115]),
    1: (0.4861665640888304, [0.45775949874855, 0.6268909280580285, 0.4165241070703219]),
    3: (0.4457483453450817, [0.5369628203787344, 0.42589992943116695, 0.412418720358357]),
}
"""It adds 1e-6 to each of the three scores, and so to what is here."""


def values(measure: Measure) -> list[float]:
    return measure.values(30).tolist()


@pytest.mark.parametrize("seed", AUTHORS)
def test_agrees_with_the_authors_program(seed: int) -> None:
    truth, found = random_case(seed, num_images=30, num_classes=4)
    total, by_class = AUTHORS[seed]
    assert values(rodeo_measure(IndexedDetections(truth, found))) == pytest.approx(
        [NAN, *by_class], abs=2e-6, nan_ok=True
    )
    pooled = rodeo_measure(IndexedDetections(truth, found), pooled=True)
    assert (pooled.name, pooled.findings) == ("rodeo_total", ("all classes",))
    assert values(pooled) == pytest.approx([total], abs=2e-6)


def test_twice_every_image_is_the_same() -> None:
    measure = rodeo_measure(IndexedDetections(*random_case(0, num_images=30)))
    np.testing.assert_allclose(measure.resampled(np.full((1, 30), 2))[0], values(measure))


def test_f1_threshold_is_the_score_of_the_best_f1() -> None:
    truth = coco_boxes([TRUE_A, TRUE_B], **KINDS)
    wrong = [("a", "Edema", 200, 100, 250, 150, s) for s in (0.7, 0.6, 0.5)]
    found = coco_boxes([EXACT_A, *wrong, (*EXACT_B[:6], 0.4), ("a", "Fracture", 0, 0, 9, 9, 0.8)], **KINDS)
    matches = evaluate(truth, found, ious=(0.4,)).matches
    # one of two found without a false alarm: F1 2/3; both with three: 4/7
    assert f1_thresholds(matches) == {"Edema": 0.9, "Fracture": math.inf}
    fewer = coco_boxes([EXACT_A, wrong[0], (*EXACT_B[:6], 0.4)], **KINDS)
    assert f1_thresholds(evaluate(truth, fewer, ious=(0.4,)).matches)["Edema"] == 0.4


def test_detections_where_nobody_looked_do_not_count() -> None:
    """Image b was not read for Edema: its detection is no false alarm, and the cell is none of the correlation's."""
    found = coco_boxes([EXACT_A, EXACT_B], **KINDS)
    true = coco_boxes([TRUE_A], **KINDS)
    region = boxes_table([("b", "Edema", 0, 0, 300, 200, NAN)]).assign(iscrowd=1)
    partly = true.with_boxes(pd.concat([true.boxes.assign(iscrowd=0), region], ignore_index=True))
    assert rodeo_measure(IndexedDetections(true, found)).values(2)[0] == pytest.approx(0.5)
    assert rodeo_measure(IndexedDetections(partly, found)).values(2)[0] == pytest.approx(1.0)

"""Measures against masks: exact values, and boxes without masks as before."""

import numpy as np
import pandas as pd
import pytest

from cxr.coco import CocoBoxes
from cxr.masks import Mask, mask_of_pixels
from eval.detection.indexed import IndexedDetections, TruthIndex
from eval.detection.localization import pointing_measure
from eval.detection.mask_measures import filled_iou, mask_iou_measure
from eval.detection.measures import box_measures
from eval.stats.measures import Measure
from tests.eval.detection.box_builders import NAN, Row, coco_boxes

BOX = ("a", "Edema", 100, 40, 140, 60, NAN)


def triangle() -> Mask:
    """The lower left half of the box (100, 40, 140, 60) in an image 200 high and 300 wide: 20 rows of 2, 4, ..., 40."""
    pixels = np.zeros((200, 300))
    for row in range(20):
        pixels[40 + row, 100 : 102 + 2 * row] = 1
    return mask_of_pixels(pixels)


def truth(*rows: Row, masks: list[Mask | None]) -> CocoBoxes:
    boxes = coco_boxes(rows)
    return boxes.with_boxes(boxes.boxes.assign(mask=pd.Series(masks, dtype=object)))


def value(measure: Measure) -> float:
    return float(measure.values(2)[0])


def test_without_masks_there_is_no_figure() -> None:
    boxes = IndexedDetections(coco_boxes([BOX]), coco_boxes([(*BOX[:6], 1.0)]))
    assert boxes.true.masks == {}
    assert "mask_iou" not in [measure.name for measure in box_measures(boxes)]
    assert np.isnan(value(mask_iou_measure(boxes)))


IOUS = [
    pytest.param([], 0.0, id="no_box"),
    pytest.param([(*BOX[:6], 0.5)], 420 / 800, id="the_box_around_the_mask"),
    pytest.param([("a", "Edema", 100, 50, 120, 60, 0.5)], 200 / 420, id="a_part_of_it"),
    pytest.param([("a", "Edema", 100.4, 50.4, 119.6, 59.6, 0.5)], 200 / 420, id="centres_of_pixels_count"),
    pytest.param([("a", "Edema", 0, 0, 90, 30, 0.5)], 0.0, id="elsewhere"),
    pytest.param([("a", "Edema", 0, 0, 9, 9, 0.4), (*BOX[:6], 0.5)], 420 / 800, id="the_best_scored_box"),
]


@pytest.mark.parametrize(("found", "expected"), IOUS)
def test_mask_iou_exact_value(found: list[Row], expected: float) -> None:
    boxes = IndexedDetections(truth(BOX, masks=[triangle()]), coco_boxes(found))
    assert value(mask_iou_measure(boxes)) == pytest.approx(expected)
    assert [measure.name for measure in box_measures(boxes)].count("mask_iou") == 1


def test_masks_of_a_class_are_one_region_and_boxes_without_masks_do_not_count() -> None:
    other = np.zeros((200, 300))
    other[40:60, 150:160] = 1
    second = ("a", "Edema", 150, 40, 160, 60, NAN)
    true = truth(BOX, second, ("b", "Edema", 0, 0, 9, 9, NAN), masks=[triangle(), mask_of_pixels(other), None])
    boxes = IndexedDetections(true, coco_boxes([("a", "Edema", 100, 40, 160, 60, 0.5)]))
    assert value(mask_iou_measure(boxes)) == pytest.approx((420 + 200) / 1200)


def test_a_box_beyond_the_image_is_cut() -> None:
    full = mask_of_pixels(np.ones((4, 6)))
    assert filled_iou(np.array([-5.0, -5.0, 90.0, 90.0]), [full]) == 1
    assert filled_iou(np.array([7.0, 5.0, 9.0, 9.0]), [full]) == 0


POINTS = [
    pytest.param(101, 59, 1.0, id="in_the_mask"),
    pytest.param(139, 41, 0.0, id="in_the_box_alone"),
    pytest.param(139.5, 59.5, 1.0, id="its_last_pixel"),
    pytest.param(90, 59, 0.0, id="outside"),
    pytest.param(NAN, NAN, 0.0, id="no_number"),
]


@pytest.mark.parametrize(("x", "y", "expected"), POINTS)
def test_pointing_game_on_masks(x: float, y: float, expected: float) -> None:
    points = pd.DataFrame([("a", "Edema", x, y)], columns=["image_id", "finding", "x", "y"])
    assert value(pointing_measure(TruthIndex(truth(BOX, masks=[triangle()])), points)) == expected


def test_a_point_on_the_last_edge_of_the_image() -> None:
    whole = ("a", "Edema", 0, 0, 300, 200, NAN)
    points = pd.DataFrame([("a", "Edema", 300, 200)], columns=["image_id", "finding", "x", "y"])
    true = truth(whole, masks=[mask_of_pixels(np.ones((200, 300)))])
    assert value(pointing_measure(TruthIndex(true), points)) == 1

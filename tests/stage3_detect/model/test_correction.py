"""Boxes that are off by the same in all images are put right by what the tune split shows."""

import math

import numpy as np
import pandas as pd
import pytest

from cxr.coco import IMAGE_FIELDS, CocoBoxes, boxes_table
from stage3_detect.model.correction import NO_CORRECTION, BoxCorrection, fit_correction

FINDINGS = ("Lung Lesion", "Pneumothorax")
IMAGE_HW = (90, 130)


def coco(*rows: tuple[object, ...], num_images: int = 8) -> CocoBoxes:
    images = [(f"i{k}", f"i{k}.png", "full", IMAGE_HW[1], IMAGE_HW[0]) for k in range(num_images)]
    return CocoBoxes(pd.DataFrame(images, columns=IMAGE_FIELDS), boxes_table(rows), FINDINGS)


def test_nothing_is_learned_from_nothing() -> None:
    assert fit_correction(coco(), coco()) == BoxCorrection({})
    assert NO_CORRECTION.of_boxes(np.zeros((0, 4)), []).shape == (0, 4)


def test_without_a_correction_boxes_stay_as_they_are() -> None:
    boxes = np.array([[3.0, 4.0, 20.0, 50.0]])
    np.testing.assert_allclose(NO_CORRECTION.of_boxes(boxes, ["Pneumothorax"]), boxes)


def test_exact_value_of_a_shift() -> None:
    correction = BoxCorrection({"Lung Lesion": (0.5, -0.25, math.log(2), 0.0)})
    # 40 x 20 around (30, 40): true width 20, so the centre lies 10 to the left and 5 lower
    boxes = correction.of_boxes(np.array([[10.0, 30.0, 50.0, 50.0]] * 2), ["Lung Lesion", "Pneumothorax"])
    np.testing.assert_allclose(boxes, [[10.0, 35.0, 30.0, 55.0], [10.0, 30.0, 50.0, 50.0]])


def test_median_is_drawn_towards_no_shift_by_five_boxes() -> None:
    true = [(f"i{k}", "Lung Lesion", 40, 30, 60, 40, float("nan")) for k in range(5)]
    found = [(f"i{k}", "Lung Lesion", 30, 30, 70, 40, 0.9) for k in range(5)]
    shift = fit_correction(coco(*found), coco(*true)).shifts["Lung Lesion"]
    assert shift == pytest.approx((0, 0, math.log(2) / 2, 0))


def test_best_detection_of_a_box_counts_and_far_ones_do_not() -> None:
    true = [("i0", "Lung Lesion", 40, 30, 60, 40, float("nan")), ("i1", "Lung Lesion", 0, 0, 10, 10, float("nan"))]
    found = [
        ("i0", "Lung Lesion", 40, 30, 60, 44, 0.1),
        ("i0", "Lung Lesion", 40, 30, 60, 70, 0.9),
        ("i0", "Pneumothorax", 40, 30, 60, 40, 0.9),
        ("i1", "Lung Lesion", 60, 60, 80, 80, 0.9),
    ]
    shifts = fit_correction(coco(*found), coco(*true)).shifts
    assert list(shifts) == ["Lung Lesion"]
    assert shifts["Lung Lesion"] == pytest.approx((0, 0.2 / 6, 0, math.log(1.4) / 6))


def test_ignore_regions_teach_nothing() -> None:
    true = coco(("i0", "Lung Lesion", 40, 30, 60, 40, float("nan")))
    true = true.with_boxes(true.boxes.assign(iscrowd=1))
    assert fit_correction(coco(("i0", "Lung Lesion", 40, 30, 60, 44, 0.5)), true) == BoxCorrection({})


def test_table_is_cut_to_the_pictures_and_loses_what_lies_outside() -> None:
    correction = BoxCorrection({"Lung Lesion": (0.0, 0.0, -math.log(2), 0.0), "Pneumothorax": (2.0, 0.0, 0.0, 0.0)})
    detections = coco(("i0", "Lung Lesion", 100, 10, 120, 20, 0.5), ("i0", "Pneumothorax", 5, 5, 15, 15, 0.4))
    put_right = correction.of_table(detections).boxes
    assert put_right[["finding", "x1", "y1", "x2", "y2"]].to_numpy().tolist() == [
        ["Lung Lesion", 90.0, 10.0, 130.0, 20.0]
    ]


def test_json_and_back() -> None:
    correction = BoxCorrection({"Lung Lesion": (0.1, -0.2, 0.3, 0.4)})
    assert BoxCorrection.from_dict(correction.as_dict()) == correction


def test_fitting_and_correcting_undo_a_common_error() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(20, 40, size=(400, 2))
    sizes = rng.uniform(10, 30, size=(400, 2))
    true = np.concatenate([corners, corners + sizes], axis=1)
    wrong = BoxCorrection({"Lung Lesion": (-0.1, 0.05, -0.3, -0.2)}).of_boxes(true, ["Lung Lesion"] * 400)
    tables = [
        coco(*[(f"i{k}", "Lung Lesion", *box, 0.5) for k, box in enumerate(boxes.tolist())], num_images=400)
        for boxes in (true, wrong)
    ]
    fitted = fit_correction(tables[1], tables[0])
    error = np.abs(fitted.of_boxes(wrong, ["Lung Lesion"] * 400) - true).mean()
    assert error < 0.05 * np.abs(wrong - true).mean()

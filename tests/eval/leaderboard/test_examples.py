"""Which test images a report shows: ranks by quality, best, median and worst, false alarms."""

import numpy as np
import pytest

from cxr.coco import boxes_table
from eval.leaderboard.examples import Case, false_alarms, ranked_cases, rows_without_boxes, spread, typical_cases
from tests.eval.detection.box_builders import NAN, coco_boxes

WIDE = (0, 0, 100, 50)


def example(row: int, quality: float = 0.0, finding: str = "Edema") -> Case:
    return Case(row, finding, quality, 0, 1, 0)


def test_no_images_no_examples() -> None:
    assert ranked_cases(coco_boxes([], images=()), boxes_table()) == []
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
    assert ranked_cases(truth, shown) == [Case(2, "Edema", pytest.approx(0.4), 1, 2, 1), Case(1, "Edema", 0.0, 0, 1, 0)]


def test_each_finding_of_an_image_is_a_case_of_its_own() -> None:
    truth = coco_boxes([("a", "Edema", *WIDE, NAN), ("a", "Fracture", *WIDE, NAN)], findings=("Edema", "Fracture"))
    shown = boxes_table([("a", "Fracture", *WIDE, 0.9)])
    assert ranked_cases(truth, shown) == [Case(0, "Fracture", 1.0, 1, 1, 0), Case(0, "Edema", 0.0, 0, 1, 0)]


def test_typical_cases_are_the_median_ones_of_the_most_frequent_findings() -> None:
    assert typical_cases([], 2) == []
    rare, edema = example(9, 0.8, "Fracture"), [example(row, 0.5 - row / 10) for row in range(4)]
    assert typical_cases([rare, *edema], 2) == [edema[1], rare]
    assert typical_cases([rare, *edema], 1) == [edema[1]]


def test_boxes_in_ignore_regions_do_not_lower_the_quality() -> None:
    truth = coco_boxes([("a", "Edema", *WIDE, NAN), ("a", "Edema", 200, 0, 300, 100, NAN)])
    truth = truth.with_boxes(truth.boxes.assign(iscrowd=[0, 1]))
    shown = boxes_table([("a", "Edema", *WIDE, 0.9), ("a", "Edema", 210, 10, 250, 60, 0.8)])
    assert ranked_cases(truth, shown) == [Case(0, "Edema", 1.0, 1, 1, 0)]
    assert rows_without_boxes(truth) == [1]
    assert rows_without_boxes(truth.with_boxes(truth.boxes[1:])) == [1]  # a region is no normal image either


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


def test_false_alarms_are_the_most_confident_box_of_each_image_without_true_boxes() -> None:
    truth = coco_boxes([("a", "Edema", *WIDE, NAN)], images=("a", "b", "c", "d"))
    assert false_alarms(truth, boxes_table(), np.zeros(0)).empty
    boxes = boxes_table([(name, "Edema", *WIDE, 0.5) for name in ("a", "b", "c", "b")])
    alarms = false_alarms(truth, boxes, np.array([0.9, 0.1, 0.3, 0.2]))
    assert alarms[["image_id", "confidence"]].to_numpy().tolist() == [["c", 0.3], ["b", 0.2]]

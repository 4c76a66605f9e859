"""eval.detection.measures: which measures there are, and that each is that of its own file."""

import numpy as np
import pandas as pd
import pytest

from cxr.coco import CocoBoxes, boxes_table
from eval.detection.average_precision import evaluate
from eval.detection.indexed import IndexedDetections
from eval.detection.localization import accuracy_measure
from eval.detection.measures import best_f1_scores, box_measures, positive_pairs, top_box_points
from eval.detection.voc import voc_measure
from eval.stats.measures import Measure
from tests.eval.detection.box_builders import coco_boxes, random_case

NAN = float("nan")
TRUE = ("a", "Edema", 10, 20, 110, 60, NAN)
NAMES = [
    "ap10", "ap30", "ap40", "ap50", "ap70", "ap5095", "label_ap40", "label_ap50", "voc40", "chex_map", "froc",
    "corloc", *(f"{kind}_accuracy{t}0" for kind in ("iou", "iobb") for t in range(1, 8)), "mean_iou", "pointing",
]  # fmt: skip


def by_name(measures: list[Measure], num_images: int) -> dict[str, np.ndarray]:
    return {measure.name: measure.values(num_images) for measure in measures}


def test_without_boxes_every_measure_is_nought_and_without_truth_none_has_a_value() -> None:
    nothing = by_name(box_measures(IndexedDetections(coco_boxes([TRUE]), coco_boxes([])), min_scores={}), 2)
    assert list(nothing) == [*NAMES, "rodeo"]
    assert {name: values.tolist() for name, values in nothing.items()} == {name: [0.0] for name in nothing}
    untrue = by_name(box_measures(IndexedDetections(coco_boxes([]), coco_boxes([(*TRUE[:6], 0.9)]))), 2)
    assert list(untrue) == NAMES  # without scores to put out there is no RoDeO
    assert all(np.isnan(values).all() for values in untrue.values())


def test_each_measure_is_that_of_its_own_file() -> None:
    truth, found = random_case(2)
    values = by_name(box_measures(IndexedDetections(truth, found)), len(truth.images))
    for iou in (0.1, 0.3, 0.4, 0.5, 0.7):
        expected = list(evaluate(truth, found).ap(iou).values())
        np.testing.assert_allclose(values[f"ap{round(100 * iou)}"], expected, atol=1e-12)
    np.testing.assert_allclose(values["ap5095"], list(evaluate(truth, found).ap5095().values()), atol=1e-12)
    np.testing.assert_array_equal(
        values["voc40"], voc_measure(IndexedDetections(truth, found)).values(len(truth.images))
    )
    inside = accuracy_measure(IndexedDetections(truth, found), overlap="iobb", threshold=0.3).values(len(truth.images))
    np.testing.assert_array_equal(values["iobb_accuracy30"], inside)


def test_points_that_are_given_replace_the_centres_of_the_best_boxes() -> None:
    truth = coco_boxes([TRUE])
    found = coco_boxes([("a", "Edema", 0, 0, 20, 20, 0.9), ("a", "Edema", 50, 30, 70, 40, 0.2)])
    assert top_box_points(found).to_numpy().tolist() == [["a", "Edema", 10, 10]]
    assert by_name(box_measures(IndexedDetections(truth, found)), 2)["pointing"].tolist() == [0]
    inside = pd.DataFrame([("a", "Edema", 60.0, 35.0)], columns=["image_id", "finding", "x", "y"])
    assert by_name(box_measures(IndexedDetections(truth, found), points=inside), 2)["pointing"].tolist() == [1]


def test_best_f1_scores_are_those_of_the_best_f1() -> None:
    rows = [(*TRUE[:6], 0.7), ("b", "Edema", 0, 0, 9, 9, 0.8), ("b", "Edema", 0, 0, 9, 9, 0.2)]
    assert best_f1_scores(coco_boxes([TRUE]), boxes_table(rows)) == {"Edema": pytest.approx(0.7)}
    assert best_f1_scores(coco_boxes([TRUE]), boxes_table()) == {"Edema": np.inf}


def test_regions_make_no_image_positive() -> None:
    rows = [("b", "Edema", 0, 0, 9, 9, NAN), TRUE, TRUE, ("a", "Fracture", 0, 0, 9, 9, NAN)]
    truth = coco_boxes(rows, findings=("Fracture", "Edema"))
    assert positive_pairs(truth) == [(0, 0), (0, 1), (1, 1)]
    crowd = truth.with_boxes(truth.boxes.assign(iscrowd=[1, 0, 0, 1]))
    assert positive_pairs(crowd) == [(0, 1)]


@pytest.mark.parametrize("seed", range(3))
def test_images_that_were_not_read_for_a_class_have_no_part_in_its_measures(seed: int) -> None:
    """Each class as if only the images existed that were read for it; detections there are plenty and strong."""
    true, found = random_case(seed)
    for side, most in (("x1", 300), ("x2", 300), ("y1", 200), ("y2", 200)):
        found.boxes[side] = found.boxes[side].clip(0, most)
    has_box = {(row["image_id"], row["finding"]) for _, row in true.boxes.iterrows()}
    cells = [(image, finding) for image in true.images["image_id"] for finding in true.findings]
    chosen = np.random.default_rng(seed).random(len(cells)) < 0.5
    unread = [cell for cell, picked in zip(cells, chosen, strict=True) if picked and cell not in has_box]
    regions = boxes_table([(*cell, 0, 0, 300, 200, NAN) for cell in unread]).assign(iscrowd=1)
    alarms = boxes_table([(*cell, 5, 5, 90, 80, 0.95) for cell in unread])
    truth = true.with_boxes(pd.concat([true.boxes.assign(iscrowd=0), regions], ignore_index=True))
    every = found.with_boxes(pd.concat([found.boxes, alarms], ignore_index=True))
    got = {m.name: m.values(len(true.images)) for m in box_measures(IndexedDetections(truth, every))}
    for k, finding in enumerate(true.findings):
        read = [image for image in true.images["image_id"] if (image, finding) not in unread]
        own, other = (one_class(part.select(read), finding) for part in (true, found))
        for measure in box_measures(IndexedDetections(own, other)):
            assert got[measure.name][k] == pytest.approx(measure.values(len(read))[0], nan_ok=True), measure.name


def one_class(boxes: CocoBoxes, finding: str) -> CocoBoxes:
    own = boxes.boxes[boxes.boxes["finding"] == finding].reset_index(drop=True)
    return CocoBoxes(boxes.images, own, (finding,), boxes.info)

"""ChEX's protocol: exact values on tiny cases; torchvision and pycocotools as the reference."""

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.ops import batched_nms

from eval.detection.chex import CHEX_IOUS, chex_measure, without_overlaps
from eval.detection.indexed import IndexedDetections
from tests.eval.detection.box_builders import NAN, coco_boxes, random_case
from tests.eval.detection.coco_reference import reference_ap

TRUE = ("a", "Edema", 10, 20, 110, 60, NAN)
EXACT = ("a", "Edema", 10, 20, 110, 60, 0.5)


def chex(true: list[tuple[object, ...]], found: list[tuple[object, ...]]) -> float:
    measure = chex_measure(IndexedDetections(coco_boxes(true), coco_boxes(found)))
    assert measure.name == "chex_map"
    return float(measure.values(2)[0])


def test_without_boxes_it_is_nought_and_without_truth_it_has_no_value() -> None:
    assert chex([TRUE], []) == 0
    assert np.isnan(chex([], [EXACT]))


def test_it_is_the_mean_over_eight_thresholds() -> None:
    """An IoU of 3/5 reaches the thresholds .4 to .6, five of the eight."""
    assert chex([TRUE], [("a", "Edema", 10, 20, 70, 60, 0.5)]) == pytest.approx(5 / 8)


def test_a_box_that_overlaps_a_better_one_does_not_count() -> None:
    """The better box misses all thresholds (IoU .3) and suppresses the exact one; in another image it does not."""
    better = (10, 20, 40, 60, 0.9)
    assert chex([TRUE], [EXACT, ("a", "Edema", *better)]) == 0
    assert chex([TRUE], [EXACT, ("b", "Edema", *better)]) == pytest.approx(1 / 2)
    apart = ("a", "Edema", 10, 20, 34, 60, 0.9)  # IoU .24
    assert chex([TRUE], [EXACT, apart]) == pytest.approx(1 / 2)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_that_of_torchvision_and_pycocotools(seed: int) -> None:
    truth, found = random_case(seed)
    close = found.boxes.assign(x1=found.boxes["x1"] + 4, score=found.boxes["score"] / 2 + 0.01)
    both = truth.with_boxes(pd.concat([found.boxes, close], ignore_index=True))
    boxes = IndexedDetections(truth, both)
    kept = batched_nms(*(torch.tensor(values) for values in (boxes.boxes, boxes.scores, boxes.cell)), 0.25)
    left = truth.with_boxes(both.boxes.iloc[np.sort(kept.numpy())])
    assert len(left.boxes) < 0.7 * len(both.boxes)
    np.testing.assert_array_equal(without_overlaps(boxes, 0.25).boxes, IndexedDetections(truth, left).boxes)
    expected = reference_ap(truth, left, CHEX_IOUS).mean(axis=0)
    np.testing.assert_allclose(chex_measure(boxes).values(len(truth.images)), expected, atol=1e-12)

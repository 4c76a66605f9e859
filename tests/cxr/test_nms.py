"""Non-maximum suppression against a plain loop."""

import numpy as np
import pytest

from cxr.boxes import iou_matrix
from cxr.nms import suppress


@pytest.mark.parametrize("number", [0, 1, 60])
def test_a_box_is_suppressed_by_a_better_one_that_stays(number: int) -> None:
    rng = np.random.default_rng(number)
    corners = rng.integers(0, 40, (number, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 30, (number, 2))], axis=1).astype(np.float32)
    expected: list[int] = []
    for row in range(number):
        if not (iou_matrix(boxes[row], boxes[expected]) > 0.45).any():
            expected.append(row)
    assert suppress(boxes, 0.45).tolist() == expected


def test_empty_and_inverted_boxes_suppress_nothing() -> None:
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5], [9, 9, 2, 2], [1, 1, 9, 9], [1, 1, 9, 8]], np.float32)
    assert suppress(boxes, 0.5).tolist() == [0, 1, 2, 3]

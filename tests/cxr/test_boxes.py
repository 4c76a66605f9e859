"""cxr.boxes: exact overlaps, empty and inverted boxes, and the examples of the docstrings."""

import doctest

import numpy as np
import pytest

from cxr import boxes
from cxr.boxes import (
    area,
    clip_boxes,
    fused_clusters,
    giou_matrix,
    iobb_pairs,
    iou_matrix,
    iou_of_two,
    iou_pairs,
    weighted_boxes_fusion,
    xywh_to_xyxy,
    xyxy_to_xywh,
)


def test_examples_of_the_docstrings_are_right() -> None:
    with np.printoptions(precision=8, formatter=None):  # other libraries change them
        results = doctest.testmod(boxes)
    assert results.attempted >= 11
    assert results.failed == 0


def test_nothing_stays_nothing() -> None:
    assert xyxy_to_xywh([]).shape == (0, 4)
    assert xywh_to_xyxy([]).shape == (0, 4)
    assert iou_matrix([], [[0, 0, 1, 1]]).shape == (0, 1)
    assert giou_matrix([[0, 0, 1, 1]], []).shape == (1, 0)
    assert iou_pairs([], []).shape == iobb_pairs([], []).shape == (0,)


def test_layouts_are_inverse() -> None:
    boxes = np.array([[1.0, 2.0, 4.0, 8.0]])
    assert xyxy_to_xywh(boxes).tolist() == [[1, 2, 3, 6]]
    np.testing.assert_array_equal(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes)


@pytest.mark.parametrize(
    ("first", "second", "iou", "iobb"),
    [
        ([0, 0, 2, 4], [0, 0, 2, 4], 1, 1),
        ([0, 0, 2, 2], [2, 0, 4, 2], 0, 0),  # they touch
        ([0, 0, 4, 2], [2, 0, 6, 2], 1 / 3, 1 / 2),
        ([1, 1, 2, 2], [0, 0, 4, 4], 1 / 16, 1),
        ([1, 1, 1, 3], [0, 0, 4, 4], 0, 0),  # an empty box
        ([3, 3, 1, 1], [0, 0, 4, 4], 0, 0),  # an inverted box
    ],
)
def test_overlap_exact_values(first: list[float], second: list[float], iou: float, iobb: float) -> None:
    assert iou_matrix([first], [second])[0, 0] == pytest.approx(iou)
    assert iou_pairs([first], [second]) == pytest.approx([iou])
    assert iobb_pairs([first], [second]) == pytest.approx([iobb])
    assert iou_of_two(tuple(first), tuple(second)) == pytest.approx(iou)


def test_two_empty_boxes_have_no_overlap_and_no_nan() -> None:
    assert iou_matrix([[1, 1, 1, 1]], [[1, 1, 1, 1]])[0, 0] == 0


def test_area_and_clip() -> None:
    assert area([[0, 0, 3, 2], [3, 0, 1, 2]]).tolist() == [6, 0]
    assert clip_boxes([[-1, -2, 70, 50]], (40, 60)).tolist() == [[0, 0, 60, 40]]


def test_many_groups_are_fused_as_each_alone() -> None:
    rng = np.random.default_rng(0)
    groups, scores = rng.integers(0, 5, 60) * 3, rng.choice([0, 0.2, 0.5, 0.9], 60)
    corners = rng.uniform(0, 6, (60, 4))
    corners[:, 2:] = corners[:, :2] + rng.uniform(2, 6, (60, 2))
    cluster, fused = fused_clusters(corners, scores, groups, iou=0.3)
    assert cluster.max() + 1 == len(fused) < 60
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        alone, _, members = weighted_boxes_fusion(corners[own], scores[own], iou=0.3)
        for box, rows in zip(alone, members, strict=True):
            (number,) = set(cluster[own[rows]].tolist())
            np.testing.assert_allclose(fused[number], box)
            assert (cluster == number).sum() == len(rows)


def test_no_boxes_have_no_clusters() -> None:
    cluster, fused = fused_clusters([], [], np.zeros(0, dtype=np.int64), iou=0.5)
    assert (cluster.shape, fused.shape) == ((0,), (0, 4))

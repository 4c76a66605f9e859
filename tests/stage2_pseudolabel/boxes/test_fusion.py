import numpy as np

from cxr.boxes import weighted_boxes_fusion
from stage2_pseudolabel.boxes.fusion import fuse_methods
from stage2_pseudolabel.boxes.rule import Found, nothing_found

A, NEAR_A, FAR = ([0.0, 0.0, 4.0, 2.0], [1.0, 0.0, 5.0, 2.0], [10.0, 10.0, 12.0, 11.0])  # IoU of the first two: 3/5


def test_nothing_fuses_to_nothing() -> None:
    boxes, scores, members = weighted_boxes_fusion([], [], iou=0.5)
    assert boxes.shape == (0, 4)
    assert scores.shape == (0,)
    assert members == []


def test_fused_corners_are_weighted_by_score_and_the_score_is_the_mean() -> None:
    boxes, scores, members = weighted_boxes_fusion([FAR, A, NEAR_A], [0.1, 0.3, 0.9], iou=0.5)
    np.testing.assert_allclose(boxes, [[0.75, 0, 4.75, 2], FAR])
    np.testing.assert_allclose(scores, [0.6, 0.1])
    assert members == [[2, 1], [0]]


def test_overlap_must_be_more_than_the_limit() -> None:
    assert len(weighted_boxes_fusion([A, NEAR_A], [1, 1], iou=0.6)[2]) == 2
    assert len(weighted_boxes_fusion([A, NEAR_A], [1, 1], iou=0.59)[2]) == 1


def test_a_box_is_compared_with_the_fused_box_so_far() -> None:
    # the third overlaps the first by 1/3; the mean of the first two, 0.471 to the right of the first, by 0.447
    boxes = [[0, 0, 4, 2], [1, 0, 5, 2], [2, 0, 6, 2]]
    assert weighted_boxes_fusion(boxes, [0.9, 0.8, 0.7], iou=0.44)[2] == [[0, 1, 2]]
    assert weighted_boxes_fusion(boxes, [0.9, 0.8, 0.7], iou=0.45)[2] == [[0, 1], [2]]


def test_a_box_joins_the_cluster_that_it_overlaps_most() -> None:
    boxes = [[0, 0, 4, 2], [5, 0, 9, 2], [4, 0, 8, 2]]
    assert weighted_boxes_fusion(boxes, [0.9, 0.8, 0.7], iou=0.0)[2] == [[0], [1, 2]]


def test_scores_of_zero_weigh_alike() -> None:
    boxes, scores, _ = weighted_boxes_fusion([A, NEAR_A], [0, 0], iou=0.5)
    np.testing.assert_allclose(boxes, [[0.5, 0, 4.5, 2]])
    assert scores.tolist() == [0]


def test_ties_keep_the_given_order() -> None:
    assert weighted_boxes_fusion([FAR, A], [0.5, 0.5], iou=0.5)[2] == [[0], [1]]


FOUND = Found(
    np.array([0, 1, 1, 1, 4, 4]), np.array([A, A, NEAR_A, FAR, A, FAR]), np.array([0.9, 0.9, 0.3, 0.1, 0.8, 0.2])
)


def test_methods_that_find_nothing_fuse_to_nothing() -> None:
    assert len(fuse_methods([nothing_found(), nothing_found()])) == 0


def test_boxes_of_one_method_alone_are_not_fused() -> None:
    assert fuse_methods([FOUND], iou=0.5) is FOUND


def test_a_box_that_more_methods_find_has_more_evidence() -> None:
    """Image 0: both find A. Image 3: one method finds it. Image 4: both, and one also far away."""
    first = Found(np.array([0, 4, 4]), np.array([A, A, FAR]), np.array([0.3, 0.6, 0.5]))
    second = Found(np.array([0, 3, 4]), np.array([NEAR_A, A, A]), np.array([0.9, 0.8, 0.6]))
    fused = fuse_methods([first, second], iou=0.5)
    assert fused.image.tolist() == [0, 3, 4, 4]
    np.testing.assert_allclose(fused.boxes, [[0.75, 0, 4.75, 2], A, A, FAR])
    np.testing.assert_allclose(fused.evidence, [0.6, 0.4, 0.6, 0.25])


def test_weak_boxes_of_a_method_do_not_lower_its_strongest_one() -> None:
    first = Found(np.zeros(2, dtype=np.int64), np.array([A, A]), np.array([0.8, 0.2]))
    second = Found(np.zeros(1, dtype=np.int64), np.array([A]), np.array([0.6]))
    fused = fuse_methods([first, second], iou=0.5)
    np.testing.assert_allclose(fused.boxes, [A])
    np.testing.assert_allclose(fused.evidence, [0.7])

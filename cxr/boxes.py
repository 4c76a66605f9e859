"""Box arithmetic: conversion, area, overlap, clipping and fusion. No other module computes overlaps.

Boxes are float64 arrays of shape (N, 4) with the corners ``x1, y1, x2, y2`` in continuous pixels: the width is
``x2 - x1``, without a +1. A box is inverted when ``x2 < x1`` or ``y2 < y1``, and empty when it has no area; both
overlap with nothing.
"""

import numpy as np
import numpy.typing as npt

from cxr.arrays import Floats, Ints

Boxes = Floats
Corners = tuple[float, float, float, float]

CORNERS = ["x1", "y1", "x2", "y2"]
"""Columns of a box in every table of boxes, in this order."""


def as_boxes(boxes: npt.ArrayLike) -> Boxes:
    """(N, 4) float64 from anything of that shape, one box of shape (4,) or an empty list; copies only if necessary.

    >>> as_boxes([]).shape, as_boxes([1, 2, 3, 4]).shape
    ((0, 4), (1, 4))
    """
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)


def xyxy_to_xywh(xyxy: npt.ArrayLike) -> Boxes:
    """(N, 4) corners to (N, 4) ``x, y, width, height``, the layout of COCO files.

    >>> xyxy_to_xywh([[10, 20, 40, 60]])
    array([[10., 20., 30., 40.]])
    """
    boxes = as_boxes(xyxy).copy()
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def xywh_to_xyxy(xywh: npt.ArrayLike) -> Boxes:
    """(N, 4) ``x, y, width, height`` to (N, 4) corners; the inverse of `xyxy_to_xywh`.

    >>> xywh_to_xyxy([[10, 20, 30, 40]])
    array([[10., 20., 40., 60.]])
    """
    boxes = as_boxes(xywh).copy()
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def area(xyxy: npt.ArrayLike) -> Floats:
    """(N, 4) corners to (N,) areas in square pixels; 0 for inverted boxes.

    >>> area([[0, 0, 10, 5], [10, 0, 0, 5]])
    array([50.,  0.])
    """
    return _area(as_boxes(xyxy))


def iou_pairs(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Intersection over union of each box with its partner: two times (N, 4) to (N,) in [0, 1]; 0 if both are empty.

    >>> iou_pairs([[0, 0, 10, 10], [0, 0, 10, 10]], [[0, 0, 10, 5], [5, 0, 15, 10]]).round(3)
    array([0.5  , 0.333])
    """
    return _iou(as_boxes(a), as_boxes(b))


def iou_matrix(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Intersection over union of all pairs: (Na, 4) and (Nb, 4) to (Na, Nb) in [0, 1]; 0 if both boxes are empty.

    >>> iou_matrix([[0, 0, 10, 10]], [[0, 0, 10, 5], [20, 0, 30, 10]])
    array([[0.5, 0. ]])
    """
    return _iou(as_boxes(a)[:, None], as_boxes(b)[None])


def iou_of_two(a: Corners, b: Corners) -> float:
    """Intersection over union in [0, 1] of two upright boxes, for loops over few boxes, where arrays are slow.

    >>> iou_of_two((0, 0, 10, 10), (0, 0, 10, 5))
    0.5
    """
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def iobb_pairs(predicted: npt.ArrayLike, true: npt.ArrayLike) -> Floats:
    """Share of each predicted box that lies inside its partner: intersection over the *predicted* box's area.

    Two times (N, 4) corners to (N,) in [0, 1]; 0 if the predicted box is empty.
    Source: "IoBB" of Wang et al., ChestX-ray8, CVPR 2017. COCO uses it for crowd regions.

    >>> iobb_pairs([[0, 0, 10, 5], [0, 0, 10, 10]], [[0, 0, 10, 10], [0, 0, 10, 5]])
    array([1. , 0.5])
    """
    found = as_boxes(predicted)
    return _ratio(_intersection(found, as_boxes(true)), _area(found))


def giou_matrix(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Generalised IoU of all pairs: IoU minus the share of the enclosing box that lies outside the union.

    (Na, 4) and (Nb, 4) corners to (Na, Nb) in [-1, 1]; negative for boxes far apart.
    Source: Rezatofighi et al., Generalized Intersection over Union, CVPR 2019, algorithm 1.

    >>> giou_matrix([[0, 0, 10, 10]], [[0, 0, 10, 10], [30, 0, 40, 10]])
    array([[ 1. , -0.5]])
    """
    first, second = as_boxes(a)[:, None], as_boxes(b)[None]
    union = _area(first) + _area(second) - _intersection(first, second)
    hull = (np.maximum(first[..., 2:], second[..., 2:]) - np.minimum(first[..., :2], second[..., :2])).prod(-1)
    generalised: Floats = _iou(first, second) - _ratio(hull - union, hull)
    return generalised


def clip_boxes(xyxy: npt.ArrayLike, image_hw: tuple[int, int]) -> Boxes:
    """Cut (N, 4) boxes to an image of the given height and width in pixels; a box outside it becomes empty.

    >>> clip_boxes([[-5, 10, 20, 90]], (80, 100))
    array([[ 0., 10., 20., 80.]])
    """
    boxes = as_boxes(xyxy).copy()
    height, width = image_hw
    boxes[:, [0, 2]] = np.clip(boxes[:, [0, 2]], 0, width)
    boxes[:, [1, 3]] = np.clip(boxes[:, [1, 3]], 0, height)
    return boxes


def weighted_boxes_fusion(
    xyxy: npt.ArrayLike, scores: npt.ArrayLike, *, iou: float
) -> tuple[Boxes, Floats, list[list[int]]]:
    """Average boxes that show the same thing.

    Starting with the best score, each box joins the cluster whose fused box it overlaps most, if by more than `iou`;
    otherwise it starts a new cluster. A fused box is the mean of its members' corners, weighted by their scores
    (unweighted if all scores are 0). Unlike in the paper, the score does not depend on the number of models.
    Source: Solovyev, Wang and Gabruseva, Weighted boxes fusion, Image and Vision Computing 2021, section 3.

    Args:
        xyxy: (N, 4) corners. scores: (N,), at least 0.

    Returns:
        (C, 4) fused boxes, best first; (C,) mean scores of their members; the indices of their members, best first.

    >>> fused, means, members = weighted_boxes_fusion([[0, 0, 10, 10], [0, 0, 10, 8]], [0.6, 0.2], iou=0.5)
    >>> fused, means, members
    (array([[ 0. ,  0. , 10. ,  9.5]]), array([0.4]), [[0, 1]])
    """
    boxes, weights = as_boxes(xyxy), np.asarray(scores, dtype=np.float64)
    cluster, fused = fused_clusters(boxes, weights, np.zeros(len(boxes), dtype=np.int64), iou=iou)
    ranked = np.argsort(-weights, kind="stable")
    members = [ranked[cluster[ranked] == number].tolist() for number in range(len(fused))]
    means = np.array([weights[own].mean() for own in members], dtype=np.float64)
    order = np.argsort(-means, kind="stable")
    return fused[order], means[order], [members[number] for number in order.tolist()]


def fused_clusters(xyxy: npt.ArrayLike, scores: npt.ArrayLike, groups: Ints, *, iou: float) -> tuple[Ints, Boxes]:
    """The clusters of `weighted_boxes_fusion` in many groups of boxes at once, for example in all images.

    All groups take their next box together, so the time depends on the largest group, not on their number.

    Args:
        xyxy: (N, 4) corners. scores: (N,), at least 0. groups: (N,) numbers; only boxes of one group are fused.

    Returns:
        (N,) cluster of each box; (C, 4) fused boxes, by group, within a group as the clusters were started.

    >>> fused_clusters([[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 10]], [0.6, 0.2, 0.5], np.array([0, 0, 1]), iou=0.5)
    (array([0, 0, 1]), array([[ 0. ,  0. , 10. ,  9.5],
           [ 0. ,  0. , 10. , 10. ]]))
    """
    boxes, weights = as_boxes(xyxy), np.asarray(scores, dtype=np.float64)
    assert len(boxes) == len(weights) == len(groups) and not (weights < 0).any(), "one score per box, none below 0"
    order = np.lexsort((-weights, groups))
    _, start, group = np.unique(groups[order], return_index=True, return_inverse=True)
    place = np.arange(len(order)) - start[group]
    size = int(place.max(initial=-1)) + 1
    fused, sums, plain = (np.zeros((len(start), size, 4)) for _ in range(3))
    mass, num = (np.zeros((len(start), size, 1)) for _ in range(2))
    started, slot = np.zeros(len(start), dtype=np.int64), np.zeros(len(order), dtype=np.int64)
    for rank in range(size):
        rows = np.flatnonzero(place == rank)
        at, own, weight = group[rows], boxes[order[rows]], weights[order[rows], None]
        overlaps = _iou(own[:, None], fused[at, : rank + 1])  # a cluster that is not started has no area
        nearest = overlaps.argmax(axis=1)
        joins = overlaps[np.arange(len(rows)), nearest] > iou
        slot[rows] = np.where(joins, nearest, started[at])
        started[at] += ~joins
        to = (at, slot[rows])
        for total, more in ((sums, weight * own), (plain, own), (mass, weight), (num, 1)):
            total[to] += more
        means = np.where(mass[to] > 0, sums[to] / np.where(mass[to] > 0, mass[to], 1), plain[to] / num[to])
        fused[to] = np.where(joins[:, None], means, own)  # one box alone keeps its exact corners
    cluster = np.zeros(len(order), dtype=np.int64)
    cluster[order] = (np.cumsum(started) - started)[group] + slot
    return cluster, fused[np.arange(size) < started[:, None]]


# The functions below take arrays of shape (..., 4) that broadcast against each other and return (...).


def _area(boxes: Boxes) -> Floats:
    sides = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None)
    return np.asarray(sides[..., 0] * sides[..., 1])


def _intersection(a: Boxes, b: Boxes) -> Floats:
    return _shared_length(a, b, 0) * _shared_length(a, b, 1)


def _shared_length(a: Boxes, b: Boxes, axis: int) -> Floats:
    """One axis at a time: the arrays are contiguous, which makes large matrices several times as fast."""
    length = np.minimum(a[..., 2 + axis], b[..., 2 + axis])
    length = np.asarray(length - np.maximum(a[..., axis], b[..., axis]))
    return np.maximum(length, 0, out=length)


def _iou(a: Boxes, b: Boxes) -> Floats:
    shared = _intersection(a, b)
    return _ratio(shared, _area(a) + _area(b) - shared)


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)

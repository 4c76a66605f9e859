"""Box arithmetic. Boxes are float64 (N, 4) ``x1, y1, x2, y2`` in continuous pixels, without a +1."""

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float64]

CORNERS = ["x1", "y1", "x2", "y2"]
"""Columns of a box in every table of boxes, in this order."""


def as_boxes(boxes: npt.ArrayLike) -> Boxes:
    """(N, 4) float64 view of `boxes`; an empty list becomes (0, 4)."""
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)


def xyxy_to_xywh(xyxy: npt.ArrayLike) -> Boxes:
    """``x1, y1, x2, y2`` to ``x, y, width, height``, (N, 4)."""
    boxes = as_boxes(xyxy).copy()
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def xywh_to_xyxy(xywh: npt.ArrayLike) -> Boxes:
    """``x, y, width, height`` to ``x1, y1, x2, y2``, (N, 4)."""
    boxes = as_boxes(xywh).copy()
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def area(xyxy: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Area in square pixels, (N,); inverted boxes have none."""
    boxes = as_boxes(xyxy)
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    return sides[:, 0] * sides[:, 1]


def intersection_matrix(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Shared area of each pair, (Na, Nb)."""
    first, second = as_boxes(a), as_boxes(b)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.clip(high - low, 0, None)
    shared: npt.NDArray[np.float64] = sides[..., 0] * sides[..., 1]
    return shared


def iou_matrix(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Intersection over union of each pair, (Na, Nb) in [0, 1]; 0 where both are empty."""
    shared = intersection_matrix(a, b)
    union = area(a)[:, None] + area(b)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def iobb_matrix(predicted: npt.ArrayLike, true: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Intersection over the *predicted* box's area, (Np, Nt) in [0, 1] (Wang et al. 2017, ChestX-ray8)."""
    shared = intersection_matrix(predicted, true)
    own = np.broadcast_to(area(predicted)[:, None], shared.shape)
    return np.divide(shared, own, out=np.zeros_like(shared), where=own > 0)


def clip_boxes(xyxy: npt.ArrayLike, image_hw: tuple[int, int]) -> Boxes:
    """Boxes cut to the image, (N, 4)."""
    boxes = as_boxes(xyxy).copy()
    height, width = image_hw
    boxes[:, [0, 2]] = np.clip(boxes[:, [0, 2]], 0, width)
    boxes[:, [1, 3]] = np.clip(boxes[:, [1, 3]], 0, height)
    return boxes


def nms(xyxy: npt.ArrayLike, scores: npt.ArrayLike, *, iou: float) -> npt.NDArray[np.intp]:
    """Indices kept by greedy non-maximum suppression, best score first; ties keep the given order."""
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    overlaps = iou_matrix(xyxy, xyxy)
    kept: list[int] = []
    for index in order:
        if all(overlaps[index, other] <= iou for other in kept):
            kept.append(int(index))
    return np.asarray(kept, dtype=np.intp)


def weighted_boxes_fusion(
    xyxy: npt.ArrayLike, scores: npt.ArrayLike, *, iou: float
) -> tuple[Boxes, npt.NDArray[np.float64], list[list[int]]]:
    """Boxes of the same thing averaged (Solovyev, Wang and Gabruseva 2021, Weighted boxes fusion, section 3).

    Best score first, each box joins the cluster whose fused box it overlaps most, if by more than `iou`, else it
    starts one. A fused box is the mean of its members' corners weighted by their scores (plain where all are 0). The
    paper then scales a score by votes over models (members / models), which the caller knows.

    Args:
        xyxy: (N, 4). scores: (N,), not below 0.

    Returns:
        (C, 4) fused boxes, the best first; (C,) mean scores of their members; the members' indices of each, best first.
    """
    boxes, weights = as_boxes(xyxy), np.asarray(scores, dtype=np.float64)
    assert len(boxes) == len(weights) and not (weights < 0).any(), "one score a box, none below 0"
    fused: Boxes = np.zeros((0, 4))
    members: list[list[int]] = []
    for index in np.argsort(-weights, kind="stable").tolist():
        overlaps = iou_matrix(boxes[index], fused)[0]
        nearest = int(np.argmax(overlaps)) if len(fused) else -1
        if nearest < 0 or overlaps[nearest] <= iou:
            fused = np.concatenate([fused, boxes[[index]]])
            members.append([index])
            continue
        members[nearest].append(index)
        own = weights[members[nearest]]
        fused[nearest] = np.average(boxes[members[nearest]], axis=0, weights=own if own.any() else None)
    means = np.array([weights[own].mean() for own in members], dtype=np.float64)
    order = np.argsort(-means, kind="stable")
    return fused[order], means[order], [members[cluster] for cluster in order.tolist()]

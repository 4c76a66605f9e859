"""Box arithmetic. Boxes are float64 (N, 4) ``x1, y1, x2, y2`` in continuous pixels, without a +1."""

import numpy as np
import numpy.typing as npt
import pandas as pd

Boxes = npt.NDArray[np.float64]


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


def fuse_readers(boxes: pd.DataFrame, *, iou: float, min_votes: int) -> pd.DataFrame:
    """One box for what several readers marked: clusters by IoU, mean corners, votes kept.

    Within an image and finding a box joins the cluster whose mean box it overlaps most, if by at least `iou` and if
    its reader has no box there yet; otherwise it starts a cluster. Clusters with fewer than `min_votes` readers drop.

    Args:
        boxes: columns image_id, finding, x1, y1, x2, y2, reader.

    Returns:
        columns image_id, finding, x1, y1, x2, y2, reader (empty), votes; in order of image, finding, first box.
    """
    rows: list[tuple[object, ...]] = []
    for (image_id, finding), group in boxes.groupby(["image_id", "finding"], sort=False):
        corners = group[["x1", "y1", "x2", "y2"]].to_numpy(dtype=np.float64)
        for members in _clusters(corners, group["reader"].tolist(), iou):
            if len(members) >= min_votes:
                rows.append((image_id, finding, *corners[members].mean(axis=0), "", len(members)))
    columns = ["image_id", "finding", "x1", "y1", "x2", "y2", "reader", "votes"]
    return pd.DataFrame(rows, columns=columns)


def _clusters(corners: Boxes, readers: list[str], iou: float) -> list[list[int]]:
    clusters: list[list[int]] = []
    for index, box in enumerate(corners):
        best, best_iou = None, iou
        for members in clusters:
            if readers[index] in {readers[member] for member in members}:
                continue
            overlap = float(iou_matrix([box], [corners[members].mean(axis=0)])[0, 0])
            if overlap >= best_iou:
                best, best_iou = members, overlap
        if best is None:
            clusters.append([index])
        else:
            best.append(index)
    return clusters

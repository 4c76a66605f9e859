"""Tables of boxes, all images at once: overlaps of boxes in the same place, matches, sums by image and finding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.arrays import Bools, Floats, Ints
from cxr.boxes import CORNERS


@dataclass(frozen=True)
class BoxPairs:
    """Each box of a first table with each of a second one in the same place. first, second: (P,) rows. iou: (P,)."""

    first: Ints
    second: Ints
    iou: Floats

    def select(self, keep: Bools) -> "BoxPairs":
        """The pairs where `keep` (P,) is true."""
        return BoxPairs(self.first[keep], self.second[keep], self.iou[keep])


def box_pairs(first: pd.DataFrame, second: pd.DataFrame, *, by: Sequence[str]) -> BoxPairs:
    """All pairs with equal cells in the columns `by`; both tables have x1, y1, x2, y2. Also pairs that do not touch."""
    keys = list(by)
    left = first[keys].assign(first=np.arange(len(first)))
    right = second[keys].assign(second=np.arange(len(second)))
    both = left.merge(right, on=keys)
    a, b = both["first"].to_numpy(dtype=np.int64), both["second"].to_numpy(dtype=np.int64)
    boxes_a, boxes_b = (table[CORNERS].to_numpy(dtype=np.float64) for table in (first, second))
    return BoxPairs(a, b, paired_iou(boxes_a[a], boxes_b[b]))


def paired_iou(a: Floats, b: Floats) -> Floats:
    """(P, 4) and (P, 4) boxes -> (P,) intersection over union of each row with its partner; 0 where both are empty."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    union = _area(a) + _area(b) - shared
    overlap: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def _area(boxes: Floats) -> Floats:
    area: Floats = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    return area


def match_greedily(pairs: BoxPairs, *, iou: float) -> Ints:
    """Rows of the first table that find a box of the second: pairs by falling overlap, each box in one pair at most.

    Pairs below `iou` do not count; equal overlaps go by the rows' order.
    """
    kept = pairs.select(pairs.iou >= iou)
    order = np.lexsort((kept.second, kept.first, -kept.iou))
    taken_first: set[int] = set()
    taken_second: set[int] = set()
    for a, b in zip(kept.first[order].tolist(), kept.second[order].tolist(), strict=True):
        if a not in taken_first and b not in taken_second:
            taken_first.add(a)
            taken_second.add(b)
    return np.array(sorted(taken_first), dtype=np.int64)


def sums_by_cell(
    boxes: pd.DataFrame, image_ids: Sequence[str], findings: Sequence[str], *, values: Floats | None = None
) -> Floats:
    """(I, K) sums of `values` (one a row of `boxes`; each 1 when None) by the rows' image_id and finding."""
    image = pd.Index(image_ids).get_indexer(pd.Index(boxes["image_id"]))
    finding = pd.Index(findings).get_indexer(pd.Index(boxes["finding"]))
    assert (image >= 0).all() and (finding >= 0).all(), "a box of an image or finding that is not listed"
    shape = (len(image_ids), len(findings))
    cells = np.bincount(image * shape[1] + finding, weights=values, minlength=shape[0] * shape[1])
    sums: Floats = cells.reshape(shape).astype(np.float64)
    return sums

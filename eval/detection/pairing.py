"""Pairs of boxes in two tables, for boxes without scores; scored boxes are matched in `eval.detection.matching`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.arrays import Bools, Floats, Ints
from cxr.boxes import CORNERS, iou_pairs


@dataclass(frozen=True)
class BoxPairs:
    """P pairs of a box of a first table and a box of a second one. first, second: (P,) rows. iou: (P,) overlap."""

    first: Ints
    second: Ints
    iou: Floats

    def select(self, keep: Bools) -> "BoxPairs":
        """The pairs where `keep` (P,) is true."""
        return BoxPairs(self.first[keep], self.second[keep], self.iou[keep])


def box_pairs(first: pd.DataFrame, second: pd.DataFrame, *, by: Sequence[str]) -> BoxPairs:
    """All pairs that agree in the columns `by`, also those that do not touch. Both tables have x1, y1, x2, y2."""
    keys = list(by)
    left = first[keys].assign(first=np.arange(len(first)))
    right = second[keys].assign(second=np.arange(len(second)))
    both = left.merge(right, on=keys)
    a, b = both["first"].to_numpy(dtype=np.int64), both["second"].to_numpy(dtype=np.int64)
    boxes_a, boxes_b = (table[CORNERS].to_numpy(dtype=np.float64) for table in (first, second))
    return BoxPairs(a, b, iou_pairs(boxes_a[a], boxes_b[b]))


def match_greedily(pairs: BoxPairs, *, iou: float) -> Ints:
    """Rows of the first table that are matched to a box of the second one.

    Pairs are taken by falling overlap down to `iou`, each box at most once; ties go by row.
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
    """(I, K) sums of `values` (one per row of `boxes`; None counts rows) by the rows' image_id and finding."""
    image = pd.Index(image_ids).get_indexer(pd.Index(boxes["image_id"]))
    finding = pd.Index(findings).get_indexer(pd.Index(boxes["finding"]))
    assert (image >= 0).all() and (finding >= 0).all(), "a box of an image or finding that is not listed"
    shape = (len(image_ids), len(findings))
    cells = np.bincount(image * shape[1] + finding, weights=values, minlength=shape[0] * shape[1])
    sums: Floats = cells.reshape(shape).astype(np.float64)
    return sums

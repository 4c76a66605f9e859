"""Predicted boxes and points beside the true boxes of the same image and class, for a whole set at once."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.arrays import Bools, Floats, Ints
from cxr.boxes import CORNERS, Boxes, area, as_boxes
from cxr.coco import CocoBoxes

Overlap = Literal["iou", "iobb"]
"""iou: intersection over union. iobb: intersection over the predicted box's own area (Wang et al. 2017)."""


class TruthIndex:
    """The true boxes of a set, in order of their cells; a cell is one class in one image.

    Regions of a column "iscrowd" are no true boxes.

    image_ids: the I images. findings: the K classes. boxes: (T, 4). cell: (T,) image x K + class, rising.
    """

    def __init__(self, truth: CocoBoxes) -> None:
        self.image_ids = truth.images["image_id"].astype(str).tolist()
        self.findings = tuple(truth.findings)
        table = truth.boxes
        if "iscrowd" in table:
            table = table[table["iscrowd"] == 0]
        cell = self.cells(table)
        order = np.argsort(cell, kind="stable")
        self.cell = cell[order]
        self.boxes: Boxes = as_boxes(table[CORNERS].to_numpy(dtype=np.float64))[order]

    @property
    def shape(self) -> tuple[int, int]:
        """Images and classes, (I, K)."""
        return len(self.image_ids), len(self.findings)

    @property
    def num_true(self) -> Ints:
        """(I, K) true boxes of each class in each image."""
        return np.bincount(self.cell, minlength=int(np.prod(self.shape))).reshape(self.shape)

    def cells(self, table: pd.DataFrame) -> Ints:
        """(N,) cell of each row, by its image_id and finding, which must be known."""
        image = pd.Index(self.image_ids, dtype=object).get_indexer(pd.Index(table["image_id"].astype(str)))
        finding = pd.Index(self.findings, dtype=object).get_indexer(pd.Index(table["finding"].astype(str)))
        assert (image >= 0).all() and (finding >= 0).all(), "rows of unknown images or classes"
        cells: Ints = (image * len(self.findings) + finding).astype(np.int64)
        return cells

    def best(
        self, cells: Ints, boxes: Boxes, *, overlap: Overlap = "iou"
    ) -> tuple[Floats, npt.NDArray[np.intp]]:
        """(N,) highest overlap of each box with a true box of its cell, and (N,) which one that is.

        0 and -1 where the cell has no true box; of true boxes with the same overlap the first one.
        """
        owner, true = self._pairs(cells)
        value = _overlap(boxes[owner], self.boxes[true], overlap)
        order = np.lexsort((true, -value, owner))
        owners, first = np.unique(owner[order], return_index=True)
        highest, which = np.zeros(len(cells)), np.full(len(cells), -1, dtype=np.intp)
        highest[owners] = value[order[first]]
        which[owners] = true[order[first]]
        return highest, which

    def holds(self, cells: Ints, xy: Floats) -> Bools:
        """(N,) whether the point (N, 2) lies in or on a true box of its cell; never for a point of NaN."""
        owner, true = self._pairs(cells)
        point, box = xy[owner], self.boxes[true]
        inside = ((point >= box[:, :2]) & (point <= box[:, 2:])).all(axis=1)
        held = np.zeros(len(cells), dtype=bool)
        held[owner[inside]] = True
        return held

    def _pairs(self, cells: Ints) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Each of the N given beside each true box of its cell: positions among the given, and among the true."""
        start = np.searchsorted(self.cell, cells, side="left")
        num = np.searchsorted(self.cell, cells, side="right") - start
        owner = np.repeat(np.arange(len(cells)), num)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(num) - num, num)
        return owner, np.repeat(start, num) + within


def _overlap(predicted: Boxes, true: Boxes, kind: Overlap) -> Floats:
    """(P, 4) and (P, 4) -> (P,) in [0, 1]; 0 where it would divide by nothing."""
    sides = np.minimum(predicted[:, 2:], true[:, 2:]) - np.maximum(predicted[:, :2], true[:, :2])
    shared: Floats = np.clip(sides, 0, None).prod(axis=1)
    own = area(predicted)
    whole = own if kind == "iobb" else own + area(true) - shared
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def top_boxes(cells: Ints, scores: Floats) -> npt.NDArray[np.intp]:
    """Position of the best-scored box of each cell that has one, by cell; the first of equal scores."""
    order = np.lexsort((-scores, cells))
    _, first = np.unique(cells[order], return_index=True)
    return order[first]

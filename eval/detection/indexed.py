"""Ground truth and detections checked, sorted and indexed once, for all measures of one set of detections.

Boxes are grouped by *cell*: one class in one image, numbered ``image * K + class``.

    boxes = IndexedDetections(truth, detections)
    measures = [ap_measure(boxes.matches, 0.4), corloc_measure(boxes), rodeo_measure(boxes)]
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.arrays import Bools, Floats, Ints
from cxr.boxes import CORNERS, Boxes, as_boxes, iobb_pairs, iou_pairs
from cxr.coco import CocoBoxes
from cxr.config import UserError
from cxr.masks import Mask, masks_in, pixels_of
from eval.detection.matching import (
    IOUS,
    MAX_DETECTIONS,
    ClassMatches,
    Detections,
    TrueBoxes,
    match_class,
    place_in_group,
)

Overlap = Literal["iou", "iobb"]
"""iou: intersection over union. iobb: intersection over the predicted box's own area (Wang et al. 2017)."""

_OVERLAPS = {"iou": iou_pairs, "iobb": iobb_pairs}


@dataclass(frozen=True)
class CellBoxes:
    """True boxes sorted by cell.

    cell: (T,) rising. boxes: (T, 4). masks: (T,) None for a box without a mask; () if no box has one.
    """

    cell: Ints
    boxes: Boxes
    masks: tuple[Mask | None, ...] = ()

    def best(self, cells: Ints, boxes: Boxes, *, overlap: Overlap = "iou") -> tuple[Floats, npt.NDArray[np.intp]]:
        """The true box that each given box, with its cell (N,) and corners (N, 4), overlaps most; the first on ties.

        Returns (N,) overlap in [0, 1] and (N,) index of the true box; 0 and -1 where the cell has no true box.
        """
        owner, true = self._pairs(cells)
        value = _OVERLAPS[overlap](boxes[owner], self.boxes[true])
        order = np.lexsort((true, -value, owner))
        owners, first = np.unique(owner[order], return_index=True)
        highest, which = np.zeros(len(cells)), np.full(len(cells), -1, dtype=np.intp)
        highest[owners] = value[order[first]]
        which[owners] = true[order[first]]
        return highest, which

    def holds(self, cells: Ints, xy: Floats) -> Bools:
        """(N,) whether each point (N, 2) lies in or on a true box of its cell, and in the box's mask if it has one.

        False for a point of NaN.
        """
        owner, true = self._pairs(cells)
        point, box = xy[owner], self.boxes[true]
        inside = np.asarray(((point >= box[:, :2]) & (point <= box[:, 2:])).all(axis=1))
        if self.masks:
            inside[inside] = [self._in_mask(*pair) for pair in zip(true[inside], point[inside], strict=True)]
        held = np.zeros(len(cells), dtype=bool)
        held[owner[inside]] = True
        return held

    def _in_mask(self, index: int, xy: Floats) -> bool:
        mask = self.masks[index]
        if mask is None:
            return True
        x, y = np.minimum(xy, (mask.width - 1, mask.height - 1)).astype(int)  # a point on the last edge
        return bool(pixels_of(mask)[y, x])

    def _pairs(self, cells: Ints) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Indices of all pairs of a given box and a true box of its cell."""
        start = np.searchsorted(self.cell, cells, side="left")
        num = np.searchsorted(self.cell, cells, side="right") - start
        owner = np.repeat(np.arange(len(cells)), num)
        return owner, np.repeat(start, num) + place_in_group(owner)


class TruthIndex:
    """The true boxes (`real`) and the ignore regions (`regions`, column "iscrowd") of I images and K classes.

    is_read: (I, K) False where an ignore region is the whole image, so that nothing counts there.
    """

    def __init__(self, truth: CocoBoxes) -> None:
        self.truth = truth
        self.image_ids = truth.images["image_id"].astype(str).tolist()
        self.findings = tuple(truth.findings)
        cells = self.cells(truth.boxes)
        order = np.argsort(cells, kind="stable")
        boxes, ignored = corners_of(truth.boxes)[order], truth.is_ignored[order]
        masks = masks_in(truth.boxes)
        own = tuple(masks[index] for index in order[~ignored]) if any(masks) else ()
        self.real = CellBoxes(cells[order][~ignored], boxes[~ignored], own)
        self.regions = CellBoxes(cells[order][ignored], boxes[ignored])
        self.is_read = self._read()

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of images and classes, (I, K)."""
        return len(self.image_ids), len(self.findings)

    @property
    def num_true(self) -> Ints:
        """(I, K) true boxes of each class in each image."""
        return np.bincount(self.real.cell, minlength=int(np.prod(self.shape))).reshape(self.shape)

    def _read(self) -> Bools:
        """(I, K) False where an ignore region covers the whole image: nobody looked for the class there."""
        is_read = np.ones(self.shape, dtype=bool)
        if not len(self.regions.cell):
            return is_read
        sizes_wh = self.truth.images[["width", "height"]].to_numpy(dtype=np.float64)
        own, image = self.regions.boxes, self.regions.cell // len(self.findings)
        whole = (own[:, :2] <= 0).all(axis=1) & (own[:, 2:] >= sizes_wh[image]).all(axis=1)
        is_read.ravel()[self.regions.cell[whole]] = False
        return is_read

    @property
    def masks(self) -> dict[int, list[Mask]]:
        """Cell -> the masks of its true boxes, of the cells that have some."""
        found: dict[int, list[Mask]] = {}
        for cell, mask in zip(self.real.cell.tolist(), self.real.masks, strict=False):
            if mask is not None:
                found.setdefault(cell, []).append(mask)
        return found

    @property
    def by_class(self) -> tuple[TrueBoxes, ...]:
        """The true boxes and regions of each class, for the matching."""
        num_images, num_classes = self.shape
        parts = []
        for k in range(num_classes):
            real, regions = (part.cell % num_classes == k for part in (self.real, self.regions))
            cell = np.concatenate([self.real.cell[real], self.regions.cell[regions]])
            boxes = np.concatenate([self.real.boxes[real], self.regions.boxes[regions]])
            crowd, order = np.arange(len(cell)) >= real.sum(), np.argsort(cell, kind="stable")
            parts.append(TrueBoxes(cell[order] // num_classes, boxes[order], crowd[order], num_images))
        return tuple(parts)

    def cells(self, table: pd.DataFrame) -> Ints:
        """(N,) cell of each row, by its image_id and finding, which must be known."""
        image = pd.Index(self.image_ids, dtype=object).get_indexer(pd.Index(table["image_id"].astype(str)))
        finding = pd.Index(self.findings, dtype=object).get_indexer(pd.Index(table["finding"].astype(str)))
        assert (image >= 0).all() and (finding >= 0).all(), "rows of unknown images or classes"
        cells: Ints = (image * len(self.findings) + finding).astype(np.int64)
        return cells


class IndexedDetections:
    """One set of N detections with its ground truth.

    true: index of the ground truth. cell: (N,) cell of each detection. boxes: (N, 4). scores: (N,).

    Raises UserError for detections of unknown images or classes, or without a finite score.
    """

    def __init__(self, truth: CocoBoxes, detections: CocoBoxes) -> None:
        check_detections(truth, detections)
        self.true = TruthIndex(truth)
        self.detections = detections
        self.cell = self.true.cells(detections.boxes)
        self.boxes = corners_of(detections.boxes)
        self.scores = detections.boxes["score"].to_numpy(dtype=np.float64)

    @property
    def by_class(self) -> tuple[Detections, ...]:
        """The detections of each class, for the matching."""
        num_classes = len(self.true.findings)
        chosen = [np.flatnonzero(self.cell % num_classes == k) for k in range(num_classes)]
        return tuple(Detections(self.cell[own] // num_classes, self.boxes[own], self.scores[own]) for own in chosen)

    def match(self, ious: tuple[float, ...], *, max_detections: int = MAX_DETECTIONS) -> tuple[ClassMatches, ...]:
        """COCO's matches at these IoU thresholds, one entry per class."""
        parts = zip(self.true.findings, self.by_class, self.true.by_class, self.true.is_read.T, strict=True)
        return tuple(
            replace(match_class(name, found, true, ious=ious, max_detections=max_detections), is_read=is_read)
            for name, found, true, is_read in parts
        )

    @cached_property
    def matches(self) -> tuple[ClassMatches, ...]:
        """COCO's matches at `IOUS`, one entry per class."""
        return self.match(IOUS)

    @cached_property
    def top_overlaps(self) -> Mapping[Overlap, Floats]:
        """(I, K) how much the best-scored box of each class in each image overlaps a true box; -1 without a box."""
        top = top_boxes(self.cell, self.scores)
        overlaps: dict[Overlap, Floats] = {}
        for kind in ("iou", "iobb"):
            values = np.full(self.true.shape, -1.0)  # a missing box stays below every threshold, also below 0
            values.ravel()[self.cell[top]], _ = self.true.real.best(self.cell[top], self.boxes[top], overlap=kind)
            overlaps[kind] = values
        return overlaps


def check_detections(truth: CocoBoxes, detections: CocoBoxes) -> None:
    """Raise one UserError with every reason why these detections cannot be scored."""
    problems: list[str] = []
    boxes = detections.boxes
    for column, known in (("image_id", truth.images["image_id"]), ("finding", truth.findings)):
        unknown = sorted(set(boxes[column].astype(str)) - {str(name) for name in known})
        if unknown:
            what = "images" if column == "image_id" else "classes"
            shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            problems.append(
                f"predictions name {len(unknown)} {what} that the truth does not have: {shown}; "
                f"score them against the truth of the same {what}"
            )
    if len(boxes) and ("score" not in boxes or not np.isfinite(boxes["score"].to_numpy(np.float64)).all()):
        problems.append("predictions lack a finite score; every predicted box needs one")
    if problems:
        raise UserError(problems)


def corners_of(table: pd.DataFrame) -> Boxes:
    """(N, 4) corners of the boxes in a table."""
    return as_boxes(table[CORNERS].to_numpy(dtype=np.float64))


def top_boxes(cells: Ints, scores: Floats) -> npt.NDArray[np.intp]:
    """Index of the best-scored box of each cell that has one, by cell; the first one on ties."""
    order = np.lexsort((-scores, cells))
    _, first = np.unique(cells[order], return_index=True)
    return order[first]

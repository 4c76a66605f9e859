"""Boxes from class activation maps: threshold, connected components, one box each.

All maps are handled together, at their own resolution. A map is taken as the bilinear surface through the centres of
its cells, constant beyond the outermost ones. The part of the surface above the level is widest on a row of centres and
tallest on a column, so linear interpolation along rows and columns gives the box of the map enlarged without limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from cxr.arrays import Bools, Floats
from stage2_pseudolabel.boxes.rule import Boxes, Found, Maps, first_boxes, nothing_found

ComponentKind = Literal["relative", "absolute", "percentile", "otsu"]
Labels = npt.NDArray[np.int32]

TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class ComponentRule:
    """Threshold and connected components.

    kind, threshold: "relative": a share of the map's maximum; "absolute": a value of the map; "percentile": a quantile
        of the map, in [0, 1]; "otsu": a multiple of the map's Otsu threshold.
    max_boxes: number of strongest components that are kept.
    min_area: smallest box, as a share of the whole map.
    background: (h, w) mean map of images without the finding, which is subtracted first; None: nothing.

    Example:
        >>> ComponentRule("relative", 0.5).find(np.eye(2, 3, dtype=np.float32)[None]).image
        array([0])
    """

    kind: ComponentKind
    threshold: float
    max_boxes: int = 1
    min_area: float = 0.002
    background: npt.NDArray[np.float32] | None = None

    def find(self, maps: Maps, *, patients: Sequence[str] | None = None) -> Found:  # noqa: ARG002
        """Boxes around the components of maps (N, h, w), strongest first, and their evidence in (0, 1].

        A map that is constant, has a value that is not finite, or is nowhere above zero has no boxes. Evidence is the
        mean of a component's cells divided by the map's maximum. For an absolute level t, which compares images, it is
        mean / (mean + t): 1/2 at the level and towards 1 above it.
        """
        rows, values = _with_evidence(maps, self.background)
        if not len(rows):
            return nothing_found()
        levels = np.maximum(self._levels(values), TINY)
        found = _components(values, levels, absolute=self.kind == "absolute", min_area=self.min_area)
        found = first_boxes(found, self.max_boxes)
        return Found(rows[found.image], found.boxes, found.evidence)

    def _levels(self, values: Floats) -> Floats:
        """(N,) the level of each map (N, h, w)."""
        flat = values.reshape(len(values), -1)
        if self.kind == "relative":
            return np.asarray(self.threshold * flat.max(axis=1))
        if self.kind == "percentile":
            return np.asarray(np.quantile(flat, self.threshold, axis=1), dtype=np.float64)
        if self.kind == "otsu":
            return self.threshold * otsu_levels(flat)
        return np.full(len(flat), self.threshold)

    def as_dict(self) -> dict[str, str | float]:
        """For the manifest."""
        return {
            "rule": "components",
            "kind": self.kind,
            "threshold": self.threshold,
            "max_boxes": self.max_boxes,
            "background": "none" if self.background is None else "negatives",
        }

    def __str__(self) -> str:
        extra = "" if self.background is None else ", minus the negatives' mean"
        return f"{self.kind} threshold {self.threshold:.3g}, up to {self.max_boxes}{extra}"


def otsu_levels(values: Floats) -> Floats:
    """Otsu's exact threshold of each row of (N, n); a constant row gives its value.

    Of all cuts between two different values it is the one with the greatest variance between the two sides, in the
    middle of the two values (Otsu 1979, eq. 18).
    """
    ordered = np.sort(values, axis=1)
    count = ordered.shape[1]
    below = np.arange(1, count)
    sums = np.cumsum(ordered, axis=1)
    gap = sums[:, -1:] * below / count - sums[:, :-1]
    between = np.where(ordered[:, 1:] > ordered[:, :-1], gap**2 / (below * (count - below)), -1.0)
    if count < 2:
        return ordered[:, 0]
    cut = np.argmax(between, axis=1)[:, None]
    middle = (np.take_along_axis(ordered, cut, axis=1) + np.take_along_axis(ordered, cut + 1, axis=1)) / 2
    return np.asarray(middle[:, 0], dtype=np.float64)


def _with_evidence(maps: Maps, background: npt.NDArray[np.float32] | None) -> tuple[npt.NDArray[np.int64], Floats]:
    """Rows of the maps that can have boxes, and these maps minus the background, clipped at 0."""
    if not maps.size:
        return np.zeros(0, dtype=np.int64), np.zeros((0, *maps.shape[1:]))
    values = maps.astype(np.float64) if background is None else maps.astype(np.float64) - background
    low, high = values.min(axis=(1, 2)), values.max(axis=(1, 2))  # NaN where any value is
    rows = np.flatnonzero(np.isfinite(low) & np.isfinite(high) & (high > 0) & (high > low))
    return rows, np.maximum(values[rows], 0.0)


def _components(values: Floats, levels: Floats, *, absolute: bool, min_area: float) -> Found:
    """Components of maps (N, h, w) >= 0 above their levels (N,); grouped by map, strongest first."""
    above = values - levels[:, None, None]
    inside = values >= levels[:, None, None]
    labels, count = _labels(above, inside)
    own, at = labels[inside], np.nonzero(inside)
    image = np.zeros(count, dtype=np.int64)
    image[own] = at[0]
    means = np.bincount(own, weights=values[inside], minlength=count) / np.bincount(own, minlength=count)
    peaks = values.max(axis=(1, 2))
    evidence = means / (means + levels[image]) if absolute else np.minimum(means / peaks[image], 1.0)
    boxes = _edges(above, at, own, count)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = np.flatnonzero((areas >= min_area) & (areas > 0))
    kept = kept[np.lexsort((-evidence[kept], image[kept]))]
    return Found(image[kept], boxes[kept], evidence[kept])


def _labels(above: Floats, inside: Bools) -> tuple[Labels, int]:
    """(N, h, w) numbers from 0 of the components (anything outside them), and their count.

    Cells that touch only at a corner belong together if the saddle of the bilinear surface between them is above the
    level.
    """
    num, height, width = inside.shape
    # All maps are stacked with an empty row between them, so that one call labels them all.
    stacked = np.zeros((num, height + 1, width), dtype=np.uint8)
    stacked[:, :height] = inside
    count, found = cv2.connectedComponents(stacked.reshape(-1, width), connectivity=4)
    labels: Labels = found.reshape(stacked.shape)[:, :height]
    first, second = _corner_pairs(labels, above, inside)
    joined = _joined_labels(first, second, count)
    # Label 0 is what lies outside; nothing links to it, so it stays 0.
    return joined[labels] - 1, int(joined.max())


def _corner_pairs(labels: Labels, above: Floats, inside: Bools) -> tuple[Labels, Labels]:
    """The labels of each pair of cells inside that touch at a corner only and belong together, two arrays (P,).

    In a square of four cells of which one diagonal is inside and the other is not, the saddle of the bilinear surface
    is above the level where the product of the first diagonal is at least that of the second.
    """
    low, high = slice(None, -1), slice(1, None)
    (top_left, top_right), (bottom_left, bottom_right) = [
        [(slice(None), y, x) for x in (low, high)] for y in (low, high)
    ]
    falling, rising = (top_left, bottom_right), (top_right, bottom_left)
    pairs = []
    for (one, other), (out, other_out) in ((falling, rising), (rising, falling)):
        at = np.nonzero(inside[one] & inside[other] & ~inside[out] & ~inside[other_out])
        saddle = above[one][at] * above[other][at] - above[out][at] * above[other_out][at]
        joined = saddle >= 0
        pairs.append((labels[one][at][joined], labels[other][at][joined]))
    first, second = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    return first, second


def _joined_labels(first: Labels, second: Labels, count: int) -> Labels:
    """(count,) new numbers of labels of which the pairs `first`, `second` belong together, in the same order."""
    lowest: Labels = np.arange(count, dtype=np.int32)
    while (lowest[first] != lowest[second]).any():
        shared = np.minimum(lowest[first], lowest[second])
        np.minimum.at(lowest, first, shared)
        np.minimum.at(lowest, second, shared)
        lowest = lowest[lowest]
    return np.unique(lowest, return_inverse=True)[1].astype(np.int32)


def _edges(above: Floats, at: tuple[npt.NDArray[np.intp], ...], own: Labels, count: int) -> Boxes:
    """(count, 4) boxes in shares of the map around the components that the cells `at` belong to (`own`).

    From a cell inside (v above the level) to a neighbour outside (n below it) the surface meets the level at
    v / (v - n) of the way. A component at the border of the map reaches the border, half a cell further.
    """
    _, height, width = above.shape
    order = np.argsort(own, kind="stable")
    image, y, x = (indices[order] for indices in at)
    starts = np.searchsorted(own[order], np.arange(count))
    padded = np.pad(above, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    value = above[image, y, x]
    boxes = np.zeros((count, 4))
    for column, (down, right) in enumerate(((0, -1), (-1, 0), (0, 1), (1, 0))):
        beyond = padded[image, y + 1 + down, x + 1 + right]
        outside = beyond < 0
        reach = np.where(np.isnan(beyond), 0.5, 0.0)
        reach[outside] = value[outside] / (value[outside] - beyond[outside])
        if down + right < 0:
            edge = (y if down else x) + 0.5 - reach
            boxes[:, column] = np.minimum.reduceat(edge, starts) if count else 0
        else:
            edge = (y if down else x) + 0.5 + reach
            boxes[:, column] = np.maximum.reduceat(edge, starts) if count else 0
    return boxes / [width, height, width, height]

"""Masks of findings as COCO's run lengths. The only place that imports pycocotools.

Run lengths go down the columns, from left to right, as in COCO: the first run counts pixels outside the mask.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from pycocotools import mask as coco_masks

from cxr.boxes import Corners

Pixels = npt.NDArray[np.uint8]
"""(H, W) of 0 and 1."""

MAX_PIXELS = 2**28
"""Larger masks are refused: no radiograph has as many pixels."""
FAR = 2
"""Polygons with a point beyond this many times the longer side of the image are refused."""
MAX_OUTLINE_PX = 2**22
"""Longer outlines are refused: filling takes time and memory with their length, and the outline of a whole radiograph
is some 20,000 pixels long."""
_MAX_RUN_BITS = 35
"""Of a run in COCO's text; longer than any in `MAX_PIXELS`."""


class Mask(NamedTuple):
    """A mask in an image of this size, in pixels. counts: COCO's compressed run lengths."""

    height: int
    width: int
    counts: str

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


def mask_of_runs(runs: Sequence[int], size_hw: tuple[int, int]) -> Mask:
    """A mask from the lengths of its runs, alternately outside and inside; the rest of the image is outside.

    Raises:
        ValueError: a negative run, or more pixels than the image has.
    """
    total = size_hw[0] * size_hw[1]
    if any(run < 0 for run in runs) or sum(runs) > total:
        raise ValueError(f"runs of {sum(runs)} pixels, expected at most {total}, none of them negative")
    counts = _without_empty_runs(runs)
    if rest := total - sum(runs):
        if len(counts) % 2:
            counts[-1] += rest
        else:
            counts.append(rest)
    return _mask(coco_masks.frPyObjects({"size": list(size_hw), "counts": counts}, *size_hw))


def mask_of_polygons(polygons: Sequence[Sequence[Sequence[float]]], size_hw: tuple[int, int]) -> Mask:
    """The union of polygons, each a list of points x, y in pixels, as COCO fills them.

    Raises:
        ValueError: a polygon has fewer than three points, a point that is not two finite numbers, or one so far outside
            the image, or an outline so long, that it would fill the memory; or the image is too large.
    """
    if size_hw[0] * size_hw[1] > MAX_PIXELS:
        raise ValueError(f"polygons in an image of {size_hw}, expected at most {MAX_PIXELS} pixels")
    flat, outline_px = [], 0.0
    for polygon in polygons:
        points = _points(polygon)
        if points.ndim != 2 or points.shape[0] < 3 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise ValueError("a polygon is not at least three points x, y")
        if (np.abs(points) > FAR * max(size_hw)).any():
            raise ValueError(f"a polygon far outside the image of {size_hw}")
        outline_px += float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())
        if outline_px > MAX_OUTLINE_PX:
            raise ValueError(f"outlines of more than {MAX_OUTLINE_PX} pixels")
        flat.append(points.ravel().tolist())
    if not flat:
        raise ValueError("no polygon")
    return _mask(coco_masks.merge(coco_masks.frPyObjects(flat, *size_hw)))


def _points(polygon: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    try:
        return np.asarray(polygon, dtype=np.float64)
    except OverflowError:  # an integer with hundreds of digits
        raise ValueError("a point of a polygon is too large a number") from None


def mask_of_pixels(pixels: npt.ArrayLike) -> Mask:
    """The pixels of an image (H, W) that are not 0."""
    inside = np.asfortranarray(np.asarray(pixels) != 0, dtype=np.uint8)
    return _mask(coco_masks.encode(inside))


def mask_of_coco(segmentation: Mapping[str, Any]) -> Mask:
    """A mask from COCO's ``{"size": [h, w], "counts": ...}``, compressed or a list of runs.

    Raises:
        ValueError: no size, no counts, or counts that do not fill the size.
    """
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, Sequence) or len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"size {size!r} of a mask, expected [height, width]")
    height, width = size
    if height * width > MAX_PIXELS:
        raise ValueError(f"size {size!r} of a mask, expected at most {MAX_PIXELS} pixels")
    if isinstance(counts, list) and all(isinstance(run, int) for run in counts) and sum(counts) == height * width:
        return mask_of_runs(counts, (height, width))
    if not isinstance(counts, str):
        raise ValueError(f"counts of a mask are neither text nor runs that fill {height} x {width} pixels")
    runs = _runs(counts)
    if min(runs, default=0) < 0 or sum(runs) != height * width:  # pycocotools would read memory beyond the runs
        raise ValueError(f"counts of a mask of other than {height} x {width} pixels")
    if 0 in runs[1:]:  # pycocotools gives wrong boxes for empty runs
        return mask_of_runs(runs, (height, width))
    return Mask(height, width, counts)


def mask_of_segmentation(segmentation: Any, size_hw: tuple[int, int]) -> Mask | None:
    """The mask of a COCO annotation's field ``segmentation``: run lengths, or polygons x1, y1, x2, y2, ...

    None if the field is empty.

    Raises:
        ValueError: it is neither, or does not fit the image's size.
    """
    if not segmentation:
        return None
    if isinstance(segmentation, list):
        if min(size_hw) < 1:
            raise ValueError("polygons of an image without width and height")
        return mask_of_polygons([np.reshape(polygon, (-1, 2)).tolist() for polygon in segmentation], size_hw)
    if not isinstance(segmentation, Mapping):
        raise ValueError(f"{type(segmentation).__name__} instead of a mask")
    mask = mask_of_coco(segmentation)
    if mask.size_hw != size_hw:
        raise ValueError(f"a mask of height and width {mask.size_hw} in an image of {size_hw}")
    return mask


def mask_to_coco(mask: Mask) -> dict[str, Any]:
    """The value of an annotation's field ``segmentation``."""
    return {"size": list(mask.size_hw), "counts": mask.counts}


def pixels_of(mask: Mask) -> Pixels:
    """(H, W) 1 inside, 0 outside."""
    runs = _runs(mask.counts)
    inside = np.repeat(np.arange(len(runs), dtype=np.uint8) % 2, runs)  # every second run is inside
    return inside.reshape(mask.width, mask.height).T


def masks_in(boxes: pd.DataFrame) -> list[Mask | None]:
    """(N,) the masks of a table of boxes, from its column `mask` if it has one; None for a box without a mask."""
    if "mask" not in boxes.columns:
        return [None] * len(boxes)
    return [mask if isinstance(mask, Mask) else None for mask in boxes["mask"]]


def area_of(mask: Mask) -> int:
    """Number of pixels inside."""
    return int(coco_masks.area(_coco(mask)))


def box_of(mask: Mask) -> Corners:
    """The smallest box around the mask, in continuous pixels; (0, 0, 0, 0) of an empty mask."""
    x, y, width, height = map(float, coco_masks.toBbox(_coco(mask)))
    return x, y, x + width, y + height


def parts_of(mask: Mask) -> list[Mask]:
    """The connected parts of a mask, from top to bottom; pixels that touch at a corner are connected."""
    left, top, right, bottom = map(int, box_of(mask))
    if right == left:
        return []
    region = np.ascontiguousarray(pixels_of(mask)[top:bottom, left:right])
    num, numbers = cv2.connectedComponents(region, connectivity=8)
    if num == 2:
        return [mask]
    parts = []
    for number in range(1, num):
        pixels = np.zeros(mask.size_hw, dtype=np.uint8, order="F")
        pixels[top:bottom, left:right] = numbers == number
        parts.append(mask_of_pixels(pixels))
    return parts


def union_of(masks: Sequence[Mask]) -> Mask:
    """The union of masks of one size."""
    return _mask(coco_masks.merge([_coco(mask) for mask in masks]))


def resized(mask: Mask, size_hw: tuple[int, int]) -> Mask:
    """The mask in a copy of the image of another size: each pixel takes the value of the nearest one."""
    if mask.size_hw == size_hw:
        return mask
    return mask_of_pixels(cv2.resize(pixels_of(mask), size_hw[::-1], interpolation=cv2.INTER_NEAREST))


def _runs(counts: str) -> list[int]:
    """The lengths of COCO's compressed runs: groups of 5 bits; from the fourth run on, differences to the last but one.

    Raises:
        ValueError: a character that COCO does not use, or a run that does not end.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"character {character!r} in the counts of a mask")
        value |= (bits & 31) << shift
        shift += 5
        if shift > _MAX_RUN_BITS:
            raise ValueError("a run of a mask is too long")
        if bits & 32:
            continue
        if bits & 16:  # the sign of a difference
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("the counts of a mask end within a run")
    return runs


def _without_empty_runs(runs: Sequence[int]) -> list[int]:
    """The same pixels as runs that are at least 1 long, but for the first."""
    merged = [0]
    for place, run in enumerate(runs):
        if run and place % 2 == (len(merged) - 1) % 2:
            merged[-1] += run
        elif run:
            merged.append(run)
    return merged


def _coco(mask: Mask) -> dict[str, Any]:
    return {"size": list(mask.size_hw), "counts": mask.counts.encode()}


def _mask(coco: Mapping[str, Any]) -> Mask:
    height, width = coco["size"]
    return Mask(int(height), int(width), coco["counts"].decode())

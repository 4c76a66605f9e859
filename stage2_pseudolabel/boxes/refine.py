"""Boxes fitted to the picture: a map knows where, the picture may know the outline.

A window of the picture around each box is cut into lesion and surroundings, and the box is drawn around the lesion's
part. Where that comes to nothing, or to something of another size, the box stays as it was.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from cxr.arrays import Floats
from stage2_pseudolabel.boxes.rule import Boxes, Found, Maps, PictureOf, Rule
from stage2_pseudolabel.settings.boxes import Refine

Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

SIZE_LIMITS = (0.3, 2.0)
"""A fitted box with less or more than these multiples of the given box's area is not believed."""

MARGIN = 0.5
"""The window goes this share of the box's width and height beyond it on every side."""

SURE, PROBABLE = 0.2, 0.5
"""Shares of the box, where the map is highest, that surely (watershed) or probably (GrabCut) belong to the lesion."""

GRABCUT_ROUNDS = 3
LEAST_SIDE = 4
"""Pixels; in a smaller box there is no outline to find."""


class RefinedRule:
    """Another rule's boxes, fitted to the picture; their evidence and order stay.

    Args:
        refine: grabcut (Rother, Kolmogorov and Blake 2004; colours are the grey value, the smoothed grey value and the
            map) or watershed (Meyer 1992; markers are the map's core in the box, and the window's rim).
    """

    def __init__(self, inner: Rule, *, refine: Refine) -> None:
        self.inner, self.refine = inner, refine

    @property
    def kind(self) -> str:
        return self.inner.kind

    def find(
        self, maps: Maps, *, owners: Sequence[str] | None = None, picture_of: PictureOf | None = None
    ) -> Found:
        """The inner rule's boxes, fitted to `picture_of(row)`, which must be given unless `refine` is none."""
        found = self.inner.find(maps, owners=owners, picture_of=picture_of)
        if self.refine == "none":
            return found
        assert picture_of is not None, "a refined rule needs the pictures"
        boxes = found.boxes.copy()
        for row in np.unique(found.image).tolist():
            picture = picture_of(row)
            for index in np.flatnonzero(found.image == row):
                boxes[index] = refined(boxes[index], picture, maps[row], refine=self.refine)
        return Found(found.image, boxes, found.evidence)

    def as_dict(self) -> dict[str, str | float]:
        """For the manifest."""
        return {**self.inner.as_dict(), "refine": self.refine}

    def __str__(self) -> str:
        return str(self.inner) if self.refine == "none" else f"{self.inner}, {self.refine}"


def refined(box: Floats, picture: Picture, cam: npt.NDArray[np.float32], *, refine: Refine) -> Floats:
    """One box (4,) in shares, fitted to the picture (H, W) uint8 by its map (h, w); the given box where the cut is
    degenerate. The same input gives the same box."""
    height, width = picture.shape
    scale = np.array([width, height, width, height], dtype=np.float64)
    inner = _whole_pixels(box * scale, picture.shape)
    if min(inner[2] - inner[0], inner[3] - inner[1]) < LEAST_SIDE:
        return box
    x1, y1, x2, y2 = _window(inner, picture.shape)
    fine = cv2.resize(_in_bytes(cam), (width, height), interpolation=cv2.INTER_LINEAR)
    within = np.zeros(picture.shape, dtype=bool)
    within[inner[1] : inner[3], inner[0] : inner[2]] = True
    window = (slice(y1, y2), slice(x1, x2))
    cut = _grabcut if refine == "grabcut" else _watershed
    lesion = cut(picture[window], fine[window], within[window])
    fitted = _box_around(lesion & _reachable(within[window]))
    if fitted is None:
        return box
    fitted = (fitted + np.array([x1, y1, x1, y1])) / scale
    low, high = SIZE_LIMITS
    return fitted if low * _area(box) <= _area(fitted) <= high * _area(box) else box


def _grabcut(picture: Picture, fine: Picture, within: Mask) -> Mask:
    """Pixels of the window that GrabCut takes for the lesion."""
    smooth = cv2.GaussianBlur(picture, (0, 0), 2.0)
    core = _core(fine, within, PROBABLE)
    mask = np.where(core, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    mask[_rim(within)] = cv2.GC_BGD
    if not (mask == cv2.GC_BGD).any():
        return np.zeros_like(within)
    cv2.setRNGSeed(0)  # GrabCut starts from k-means
    colours = np.dstack([picture, smooth, fine])
    cut, _, _ = cv2.grabCut(
        colours, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK
    )
    return np.asarray(np.isin(cut, (cv2.GC_FGD, cv2.GC_PR_FGD)))


def _watershed(picture: Picture, fine: Picture, within: Mask) -> Mask:
    """Pixels of the window that a flood from the map's core reaches before one from the rim does."""
    markers = np.where(_core(fine, within, SURE), 2, 0).astype(np.int32)
    markers[_rim(within)] = 1
    if not (markers == 1).any():
        return np.zeros_like(within)
    smooth = cv2.GaussianBlur(picture, (0, 0), 1.5)
    # OpenCV gives the outermost pixels to nobody, so they are a frame that is cut off again.
    framed = cv2.copyMakeBorder(smooth, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    flooded = cv2.watershed(cv2.merge([framed] * 3), np.pad(markers, 1))
    return np.asarray(flooded[1:-1, 1:-1] == 2)


def _core(fine: Picture, within: Mask, share: float) -> Mask:
    """The share of the box where the map is highest; of equally high pixels those nearest to the box's middle."""
    rows, columns = np.nonzero(within)
    from_middle = np.maximum(
        np.abs(rows - rows.mean()) / (np.ptp(rows) + 1),
        np.abs(columns - columns.mean()) / (np.ptp(columns) + 1),
    )
    order = np.lexsort((from_middle, -fine[within].astype(np.int64)))
    best = order[: max(1, round(share * len(order)))]
    core = np.zeros_like(within)
    core[rows[best], columns[best]] = True
    return core


def _rim(within: Mask) -> Mask:
    """What lies beyond the middle of the margin: surely not the lesion. Where the box ends at the picture's edge
    there is none on that side."""
    return ~_reachable(within)


def _reachable(within: Mask) -> Mask:
    """The box and half of its margin."""
    rows, columns = np.nonzero(within)
    down, right = (np.ptp(rows) + 1) * MARGIN / 2, (np.ptp(columns) + 1) * MARGIN / 2
    near = np.zeros_like(within)
    top, left = max(0, int(rows.min() - down)), max(0, int(columns.min() - right))
    near[top : int(rows.max() + 1 + down) + 1, left : int(columns.max() + 1 + right) + 1] = True
    return near


def _box_around(lesion: Mask) -> Boxes | None:
    """(4,) around the largest connected part, in pixels; None where there is none."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(lesion.astype(np.uint8), connectivity=8)
    if count < 2:
        return None
    x, y, width, height = stats[1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])), :4].astype(np.float64)
    return np.array([x, y, x + width, y + height])


def _whole_pixels(box: Floats, hw: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.clip(np.rint(box), 0, [hw[1], hw[0], hw[1], hw[0]]).astype(np.int64)


def _window(inner: npt.NDArray[np.int64], hw: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The box with its margin, cut to the picture."""
    reach = np.ceil((inner[2:] - inner[:2]) * MARGIN).astype(np.int64)
    x1, y1 = np.maximum(inner[:2] - reach, 0).tolist()
    x2, y2 = np.minimum(inner[2:] + reach, [hw[1], hw[0]]).tolist()
    return x1, y1, x2, y2


def _in_bytes(cam: npt.NDArray[np.float32]) -> Picture:
    """The map between 0 and 255; of zeros where it is constant or not finite."""
    low, high = float(cam.min()), float(cam.max())
    if not np.isfinite([low, high]).all() or high <= low:
        return np.zeros(cam.shape, dtype=np.uint8)
    return np.rint((cam - low) / (high - low) * 255).astype(np.uint8)


def _area(box: Floats) -> float:
    return float(max(box[2] - box[0], 0) * max(box[3] - box[1], 0))

"""The scene in which findings are rendered: the layers, the free area, and the visible boxes."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr.phantom.anatomy import Anatomy
from cxr.phantom.canvas import Frame, Layer, box_of, cloud, ramp
from cxr.phantom.picture import Paint

Box = tuple[float, float, float, float]
Mask = NDArray[np.bool_]


@dataclass
class Scene:
    """One image while findings are rendered into it."""

    anatomy: Anatomy
    paint: Paint
    free: Mask
    """Visible lung that no finding covers yet."""
    found: list[tuple[str, Box]] = field(default_factory=list)
    side: int = 0
    """The side of the last one-sided finding, 0 before there was one."""

    @property
    def frame(self) -> Frame:
        return self.anatomy.frame

    def lung(self, side: int) -> Layer:
        return self.anatomy.lungs[0 if side < 0 else 1]

    def seen(self) -> Mask:
        """Visible lung: not behind the heart or the mediastinum."""
        covered = np.maximum(self.anatomy.heart, self.anatomy.middle)
        return np.asarray((np.maximum(*self.anatomy.lungs) > 0.5) & (covered < 0.5))

    def record(self, finding: str, mask: Mask, *, min_px: int = 5) -> bool:
        """Add the box around the mask; returns False if the mask is too small to be visible."""
        box = box_of(_without_crumbs(mask))
        if box is None or min(box[2] - box[0], box[3] - box[1]) < min_px:
            return False
        self.found.append((finding, box))
        return True


def _without_crumbs(mask: Mask) -> Mask:
    """The mask without pieces that are far smaller than the largest; no radiologist would mark them."""
    num, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if num <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = np.flatnonzero(areas >= 0.15 * areas[1:].max())
    return np.asarray(np.isin(pieces, kept[kept > 0]))


def start_scene(anatomy: Anatomy) -> Scene:
    """A scene without findings."""
    empty = anatomy.frame.empty
    scene = Scene(anatomy, Paint(empty(), empty(), empty()), np.zeros(anatomy.frame.size_hw, bool))
    scene.free = scene.seen()
    return scene


def place(scene: Scene, rng: np.random.Generator, *, radius: float, region: Mask) -> tuple[float, float] | None:
    """A body point whose disc of `radius` (half chest widths) lies mostly in the free part of the region."""
    margin_px = cv2.distanceTransform((scene.free & region).astype(np.uint8), cv2.DIST_L2, 3)
    rows, columns = np.nonzero(margin_px > radius * scene.frame.half_width_px)
    if len(rows) == 0:
        return None
    i = int(rng.integers(len(rows)))
    u, v = scene.frame.grid
    return float(u[rows[i], columns[i]]), float(v[rows[i], columns[i]])


def use_up(scene: Scene, mask: Mask) -> None:
    """Remove the mask, widened by four pixels, from the free part of the scene."""
    kernel = np.ones((5, 5), np.uint8)
    scene.free &= cv2.dilate(mask.astype(np.uint8), kernel, iterations=2) == 0


def everywhere(scene: Scene) -> Mask:
    """A mask of all pixels."""
    return np.ones(scene.frame.size_hw, bool)


def blob(
    scene: Scene, rng: np.random.Generator, at: tuple[float, float], radii: tuple[float, float], rough: float
) -> Layer:
    """A soft-edged irregular patch, 1 inside; `rough` is how ragged its edge is."""
    u, v = scene.frame.grid
    angle = rng.uniform(0, np.pi)
    x, y = u - at[0], (v - at[1]) * scene.anatomy.body.aspect
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    radius = np.sqrt(((c * x + s * y) / radii[0]) ** 2 + ((c * y - s * x) / radii[1]) ** 2)
    ragged = radius + rough * cloud(rng, scene.frame, size=0.6 * min(radii))
    return ramp((1.22 - ragged) / 0.5)

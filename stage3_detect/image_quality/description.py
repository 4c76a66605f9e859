"""What the quality gate sees of an image: a thumbnail, its layout, and statistics of its grey values."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cxr.arrays import Floats
from cxr.imaging.files import Pixels

Thumbnail = npt.NDArray[np.uint8]
"""(h, w), at most `THUMBNAIL_PX` on a side, stretched from the image's minimum to its maximum."""

THUMBNAIL_PX = 256
LAYOUT_PX = 32
"""Side of the square to which the thumbnail is reduced; coarse, so that it shows anatomy and not texture."""

STATISTICS = (
    "brightness", "contrast", "dark_tenth", "median", "bright_tenth", "black_share", "white_share", "edge_brightness",
    "centre_brightness", "symmetry", "detail",
)  # fmt: skip
"""Names of `Description.tone`. Brightness, tenths (percentiles 10 and 90) and detail (mean difference of neighbours)
are shares of the full range; symmetry is the correlation of the layout with its mirror image."""

_FLAT = 1e-3
"""Added to standard deviations, so that a flat image has a layout of zeros."""


@dataclass(frozen=True)
class Description:
    """layout: (LAYOUT_PX ** 2,) the reduced image with mean 0 and standard deviation 1. tone: (len(STATISTICS),)."""

    layout: Floats
    tone: Floats


def thumbnail_of(pixels: Pixels) -> Thumbnail:
    """Reduce an image (H, W) with at least one pixel; pixels are picked, not averaged, which takes a tenth of a ms."""
    scale = min(1.0, THUMBNAIL_PX / max(pixels.shape))
    size_wh = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size_wh, interpolation=cv2.INTER_NEAREST).astype(np.float32)
    low, high = float(small.min()), float(small.max())
    return np.asarray(np.round((small - low) * (255 / (high - low) if high > low else 0)), dtype=np.uint8)


def describe(thumbnail: Thumbnail) -> Description:
    """Layout and statistics of a thumbnail."""
    small = cv2.resize(thumbnail.astype(np.float32) / 255, (LAYOUT_PX, LAYOUT_PX), interpolation=cv2.INTER_AREA)
    layout = (small - small.mean()) / (small.std() + _FLAT)
    return Description(layout.ravel().astype(np.float64), _tone(thumbnail, small, layout))


def _tone(thumbnail: Thumbnail, small: npt.NDArray[np.float32], layout: npt.NDArray[np.float32]) -> Floats:
    levels = np.bincount(thumbnail.ravel(), minlength=256) / thumbnail.size
    grey = np.arange(256) / 255
    mean = float(levels @ grey)
    tenths = np.searchsorted(levels.cumsum(), (0.1, 0.5, 0.9)) / 255
    edge = LAYOUT_PX // 8
    middle = slice(LAYOUT_PX // 4, -(LAYOUT_PX // 4))
    border = np.concatenate([small[:edge].ravel(), small[:, :edge].ravel(), small[:, -edge:].ravel()])
    neighbours = cv2.absdiff(thumbnail[:, 1:], thumbnail[:, :-1]) if thumbnail.shape[1] > 1 else thumbnail * 0
    values = (
        mean,
        float(levels @ (grey - mean) ** 2) ** 0.5,
        *tenths,
        levels[:3].sum(),
        levels[-3:].sum(),
        border.mean(),
        small[middle, middle].mean(),
        (layout * layout[:, ::-1]).mean(),
        neighbours.mean() / 255,
    )
    return np.array(values, dtype=np.float64)

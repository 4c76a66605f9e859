"""Whether an image looks like a chest radiograph that the detector can judge."""

from dataclasses import dataclass

import cv2
import numpy as np

from cxr.imaging.files import Pixels

MIN_SIDE_PX = 256
"""Below this, small findings are a few pixels wide."""
MAX_ASPECT = 2.0
MAX_CLIPPED_SHARE = 0.4
"""Share of pixels at the darkest or the brightest value, outside the dark border, above which contrast is lost."""
MIN_LEVELS = 32
"""Different grey values of the image, at 8 bits."""


@dataclass(frozen=True)
class Quality:
    """ok: nothing speaks against reading the image. reasons: a sentence for each problem."""

    ok: bool
    reasons: tuple[str, ...]


def quality_of(pixels: Pixels) -> Quality:
    """Judge an image (H, W) by its size, contrast and brightness.

    It finds images that no detector can judge: tiny, cut to a strip, blank, saturated, inverted. It does not find a
    lateral view or another part of the body.
    """
    height, width = pixels.shape
    reasons = []
    if min(height, width) < MIN_SIDE_PX:
        reasons.append(f"The image is small ({width} x {height} pixels); details may be missing.")
    if max(height, width) > MAX_ASPECT * min(height, width):
        reasons.append(f"The image is a strip ({width} x {height} pixels); a part of the chest may be missing.")
    small = _thumbnail(pixels)
    levels = np.bincount(small.ravel(), minlength=256)
    if np.count_nonzero(levels) < MIN_LEVELS:
        reasons.append("The image has hardly any contrast.")
    elif levels[255] > MAX_CLIPPED_SHARE * small.size or levels[0] > (MAX_CLIPPED_SHARE + 0.2) * small.size:
        reasons.append("Much of the image is plain black or white; check the exposure or the export.")
    elif _looks_inverted(small):
        reasons.append("The image seems to be inverted: its edge is brighter than its centre.")
    return Quality(not reasons, tuple(reasons))


def _thumbnail(pixels: Pixels) -> Pixels:
    """At most 256 px on a side, stretched to 8 bits."""
    scale = min(1.0, 256 / max(pixels.shape))
    size_wh = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size_wh, interpolation=cv2.INTER_NEAREST).astype(np.float32)
    low, high = float(small.min()), float(small.max())
    return np.asarray(np.round((small - low) * (255 / (high - low) if high > low else 0)), dtype=np.uint8)


def _looks_inverted(small: Pixels) -> bool:
    """Air around the body is dark in a radiograph with bright bone; the corners show it most often."""
    height, width = small.shape
    band_h, band_w = max(1, height // 12), max(1, width // 12)
    corners = [small[:band_h, :band_w], small[:band_h, -band_w:]]
    middle = small[height // 4 : -(height // 4) or None, width // 4 : -(width // 4) or None]
    return bool(min(float(np.median(corner)) for corner in corners) > 200 and float(np.median(middle)) < 128)

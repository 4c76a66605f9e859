"""Problems that need no comparison with other images: size, shape, contrast, saturation."""

import numpy as np

from cxr.imaging.files import Pixels
from stage3_detect.image_quality.description import Thumbnail

MIN_SIDE_PX = 256
"""Below this, small findings are a few pixels wide."""
MAX_ASPECT = 2.0
MAX_WHITE_SHARE, MAX_BLACK_SHARE = 0.4, 0.6
"""Shares of pixels at the brightest and the darkest value; some black is the air around the patient."""
MIN_LEVELS = 32
"""Different grey values of the thumbnail."""


def rule_codes(pixels: Pixels, thumbnail: Thumbnail, *, min_side_px: int = MIN_SIDE_PX) -> list[str]:
    """The reasons (keys of `SENTENCES`) against an image (H, W).

    min_side_px: smaller where the detector was trained on smaller images.
    """
    height, width = pixels.shape
    codes = []
    if min(height, width) < min_side_px:
        codes.append("small")
    if max(height, width) > MAX_ASPECT * min(height, width):
        codes.append("strip")
    levels = np.bincount(thumbnail.ravel(), minlength=256)
    if np.count_nonzero(levels) < MIN_LEVELS:
        codes.append("no_contrast")
    elif levels[255] > MAX_WHITE_SHARE * thumbnail.size or levels[0] > MAX_BLACK_SHARE * thumbnail.size:
        codes.append("clipped")
    return codes


def looks_inverted(thumbnail: Thumbnail) -> bool:
    """For detectors without a gate of their own: air around the body is dark, most often in the upper corners."""
    height, width = thumbnail.shape
    band_h, band_w = max(1, height // 12), max(1, width // 12)
    corners = [thumbnail[:band_h, :band_w], thumbnail[:band_h, -band_w:]]
    middle = thumbnail[height // 4 : -(height // 4) or None, width // 4 : -(width // 4) or None]
    return bool(min(float(np.median(corner)) for corner in corners) > 200 and float(np.median(middle)) < 128)

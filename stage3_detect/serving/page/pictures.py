"""Pixels for the reading page: smaller than the image where it is large, stretched over the whole range of grey."""

import cv2
import numpy as np
import numpy.typing as npt

from cxr.imaging.files import Pixels

MAX_SIDE_PX = 2048

Shown = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def shown_pixels(pixels: Pixels, *, max_side_px: int = MAX_SIDE_PX) -> Shown:
    """The image at most `max_side_px` long, with area means, so that its lowest value is 0 and its highest the maximum.

    pixels: (H, W) uint8, uint16 or float32.

    Returns:
        (h, w) uint8 of a uint8 image, otherwise uint16; all zeros if the image has one value only.
    """
    low, high, *_ = cv2.minMaxLoc(pixels)
    height, width = pixels.shape
    shrink = min(1.0, max_side_px / max(height, width))
    if shrink < 1:
        size_wh = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        pixels = cv2.resize(pixels, size_wh, interpolation=cv2.INTER_AREA)
    most = 255 if pixels.dtype == np.uint8 else 65535
    factor = most / (high - low) if high > low else 0.0
    stretched = np.multiply(pixels, np.float32(factor), dtype=np.float32)
    stretched += np.float32(0.5 - low * factor)  # the cast cuts off what is behind the point
    np.clip(stretched, 0, most, out=stretched)
    return stretched.astype(np.uint8) if most == 255 else stretched.astype(np.uint16)

"""A map as a grid of bytes over the image."""

import cv2
import numpy as np
import numpy.typing as npt

from cxr.boxes import Boxes

GRID_PX = 128
"""Longer side of the maps that are sent."""

Maps = npt.NDArray[np.float32]


def cut_map(values: Maps, area: Boxes, image_hw: tuple[int, int]) -> Maps:
    """A map (h, w) as a grid over the image: the bars of a letterbox are cut off.

    Args:
        area: x1, y1, x2, y2 of the image in the map, in shares of the map's width and height.
        image_hw: size of the image, which gives the grid its shape.
    """
    height, width = values.shape
    x1, y1, x2, y2 = area
    grid_h, grid_w = grid_shape(image_hw)
    columns = ((np.arange(grid_w) + 0.5) / grid_w * (x2 - x1) + x1) * width - 0.5
    rows = ((np.arange(grid_h) + 0.5) / grid_h * (y2 - y1) + y1) * height - 0.5
    grid_x, grid_y = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
    resampled = cv2.remap(values, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(resampled, dtype=np.float32)


def grid_shape(image_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the grid of an image: the longer side is `GRID_PX`."""
    scale = GRID_PX / max(image_hw)
    return max(1, round(image_hw[0] * scale)), max(1, round(image_hw[1] * scale))


def to_bytes(values: Maps, image_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A map as bytes of its own range, at the grid of the image; a constant map is 0."""
    grid_h, grid_w = grid_shape(image_hw)
    if values.shape != (grid_h, grid_w):
        values = cv2.resize(values, (grid_w, grid_h), interpolation=cv2.INTER_LINEAR)
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(values.shape, dtype=np.uint8)
    return np.asarray(np.round((values - low) * (255 / (high - low))), dtype=np.uint8)

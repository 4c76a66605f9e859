"""The geometry between the cells of a map and the pixels of an image."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxr.imaging.geometry import Resize

Boxes = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """The network's input size, and whether pictures are letterboxed into it.

    shift_hw: how many pixels of the network's input the cells of a map lie too far down and right
        (cam_maps/alignment.py); boxes from the map are shifted back.
    """

    net_hw: tuple[int, int]
    keep_aspect: bool
    shift_hw: tuple[float, float] = (0.0, 0.0)

    def to_image(self, boxes_norm: Boxes, image_hw: tuple[int, int]) -> Boxes:
        """(N, 4) boxes in shares of the map to pixels of the image, cut to it."""
        boxes = self._resize(image_hw).boxes_to_image(boxes_norm * self._scale - self._shift)
        return np.clip(boxes, 0, [image_hw[1], image_hw[0], image_hw[1], image_hw[0]])

    def from_image(self, boxes: Boxes, image_hw: tuple[int, int]) -> Boxes:
        """(N, 4) boxes in pixels of the image to shares of the map."""
        return (self._resize(image_hw).boxes_to_net(boxes) + self._shift) / self._scale

    def _resize(self, image_hw: tuple[int, int]) -> Resize:
        return Resize(image_hw, self.net_hw, self.keep_aspect)

    @property
    def _scale(self) -> Boxes:
        height, width = self.net_hw
        return np.array([width, height, width, height], dtype=np.float64)

    @property
    def _shift(self) -> Boxes:
        down, right = self.shift_hw
        return np.array([right, down, right, down], dtype=np.float64)

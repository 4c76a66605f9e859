"""Invertible transforms between an image's own pixels and a network's input."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxr.boxes import Boxes, as_boxes


@dataclass(frozen=True)
class Resize:
    """The transform from an image to a network's input: squashed, or letterboxed with centred black bars.

    Coordinates are continuous: pixel i covers [i, i + 1). A coordinate x maps to ``x * scale + offset``, which is where
    OpenCV's resize places the content. A box mapped to the network and back is equal to floating point precision.

    Attributes:
        image_hw: height and width of the image in pixels.
        net_hw: height and width of the network's input in pixels.
        keep_aspect: True for letterbox, False for squash.

    Example:
        >>> Resize((2000, 1000), (100, 100), keep_aspect=True).content_hw
        (100, 50)
    """

    image_hw: tuple[int, int]
    net_hw: tuple[int, int]
    keep_aspect: bool = False

    @property
    def content_hw(self) -> tuple[int, int]:
        """Height and width of the image's content in network pixels, without the bars."""
        if not self.keep_aspect:
            return self.net_hw
        scale = min(self.net_hw[0] / self.image_hw[0], self.net_hw[1] / self.image_hw[1])
        return max(1, round(self.image_hw[0] * scale)), max(1, round(self.image_hw[1] * scale))

    @property
    def offset_yx(self) -> tuple[int, int]:
        """Height of the top bar and width of the left bar in network pixels."""
        content_h, content_w = self.content_hw
        return (self.net_hw[0] - content_h) // 2, (self.net_hw[1] - content_w) // 2

    def content(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The image's content in a picture of the network's size (h, w, ...), without the bars; a view."""
        (top, left), (height, width) = self.offset_yx, self.content_hw
        return picture[top : top + height, left : left + width]

    def boxes_to_net(self, xyxy: npt.ArrayLike) -> Boxes:
        """(N, 4) boxes in image pixels to network pixels."""
        return as_boxes(xyxy) * self._scale_xyxy() + self._offset_xyxy()

    def boxes_to_image(self, xyxy_net: npt.ArrayLike) -> Boxes:
        """(N, 4) boxes in network pixels to image pixels (not clipped)."""
        return (as_boxes(xyxy_net) - self._offset_xyxy()) / self._scale_xyxy()

    def _scale_xyxy(self) -> npt.NDArray[np.float64]:
        content_h, content_w = self.content_hw
        return np.tile([content_w / self.image_hw[1], content_h / self.image_hw[0]], 2)

    def _offset_xyxy(self) -> npt.NDArray[np.float64]:
        top, left = self.offset_yx
        return np.tile([float(left), float(top)], 2)

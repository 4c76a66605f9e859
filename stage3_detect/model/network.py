"""A trained network as a function of arrays: the protocol of all inference engines, and its input."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from cxr.imaging.files import Pixels
from cxr.imaging.geometry import Resize
from cxr.imaging.network_input import NetImage, to_net_image

NetInput = npt.NDArray[np.float32]
"""(1, C, S, S) in [0, 1]."""

RawOutput = npt.NDArray[np.float32]
"""(4 + K, anchors): centre x, centre y, width, height in network pixels and K class scores, before NMS. From the
NMS-free head: (M, 6) rows x1, y1, x2, y2, score, class."""


class Network(Protocol):
    """A network on any inference engine.

    findings: the classes in order. channels: 1 or 3. image_px: side S of the square input.
    """

    findings: tuple[str, ...]
    channels: int
    image_px: int

    def __call__(self, net_image: NetImage) -> RawOutput:
        """(S, S) uint8 -> raw output of that picture, as a new array."""
        ...


def to_net(image: Pixels, image_px: int) -> tuple[NetImage, Resize]:
    """Letterbox an image to a square of 8 bits, stretched by its own minimum and maximum.

    Training files have 8 bits too, so the detector sees the same values in training and in prediction.

    Args:
        image: (H, W) uint8, uint16 or float32; see `to_net_image`.

    Returns:
        (image_px, image_px) uint8, and the transform that maps boxes there and back.

    Raises:
        UserError: the image has no pixels.
    """
    height, width = image.shape
    resize = Resize((height, width), (image_px, image_px), keep_aspect=True)
    return to_net_image(image, resize), resize


def to_tensor_input(net_image: NetImage, channels: int) -> NetInput:
    """(S, S) uint8 to (1, channels, S, S) float32 in [0, 1]; the grey channel is repeated for three channels."""
    scaled = np.divide(net_image, np.float32(255), dtype=np.float32)[None, None]
    return scaled if channels == 1 else np.repeat(scaled, channels, axis=1)

"""One way from a picture to the detector's input, for training files, prediction and the exported model alike."""

import numpy as np
import numpy.typing as npt

from cxr.geometry import Resize
from cxr.images import GrayImage, min_max

NetImage = npt.NDArray[np.uint8]


def to_net(image: GrayImage, image_px: int) -> tuple[NetImage, Resize]:
    """Letterbox (H, W) float to (image_px, image_px) uint8, stretched by its own minimum and maximum.

    Eight bits here as well as in the training files, so that the detector meets the very same values.

    Returns:
        the picture, and the transform that takes boxes there and back.
    """
    height, width = image.shape
    resize = Resize((height, width), (image_px, image_px), keep_aspect=True)
    return np.round(resize.apply(min_max(image)) * 255).astype(np.uint8), resize


def to_tensor_input(net_image: NetImage, channels: int) -> npt.NDArray[np.float32]:
    """(S, S) uint8 to (1, channels, S, S) float32 in [0, 1]; grey is replicated where three channels are wanted."""
    scaled = net_image.astype(np.float32) / 255
    return np.repeat(scaled[None, None], channels, axis=1)

"""One way from a picture to the detector's input, for training files, prediction and the exported forms alike."""

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from cxr.config import UserError
from cxr.imaging.files import GrayImage, Pixels
from cxr.imaging.geometry import Resize
from stage3_detect.model.shrink import averaged_bands

NetImage = npt.NDArray[np.uint8]


def to_net(image: Pixels, image_px: int) -> tuple[NetImage, Resize]:
    """Letterbox (H, W) to (image_px, image_px) uint8, stretched by its own minimum and maximum.

    Eight bits here as well as in the training files, so that the detector meets the very same values. The picture may
    be as `read_image` gives it or as `read_pixels` does: a scale of its values does not matter. Averaging pixels and
    stretching change places without changing the result, so the small picture is stretched: that is cheaper.

    Args:
        image: float32, uint8 or uint16.

    Returns:
        the picture, and the transform that takes boxes there and back.

    Raises:
        UserError: there is no pixel.
    """
    if not image.size:
        raise UserError(f"image: {image.shape[0]} x {image.shape[1]} pixels (H x W), expected one at least")
    height, width = image.shape
    resize = Resize((height, width), (image_px, image_px), keep_aspect=True)
    low, high, _, _ = cv2.minMaxLoc(image)
    canvas = np.zeros((image_px, image_px), dtype=np.uint8)
    if high > low:
        top, left = resize.offset_yx
        for band in _resized(image, resize.content_hw, low):
            stretched = cv2.convertScaleAbs(band, alpha=255 / (high - low))  # rounds to even, as numpy does
            canvas[top : top + len(band), left : left + band.shape[1]] = stretched
            top += len(band)
    return canvas, resize


def _resized(image: Pixels, size_hw: tuple[int, int], low: float) -> Iterable[GrayImage]:
    """Bands of rows as `Resize` makes them, minus `low`: area averaging when shrinking, linear when growing."""
    height, width = size_hw
    if height * width < image.size:
        return averaged_bands(image, size_hw, low=low)
    from_zero = (image - image.dtype.type(low)).astype(np.float32, copy=False)
    return [cv2.resize(from_zero, (width, height), interpolation=cv2.INTER_LINEAR)]


def to_tensor_input(net_image: NetImage, channels: int) -> npt.NDArray[np.float32]:
    """(S, S) uint8 to (1, channels, S, S) float32 in [0, 1]; grey is replicated where three channels are wanted."""
    scaled = np.divide(net_image, np.float32(255), dtype=np.float32)[None, None]
    return scaled if channels == 1 else np.repeat(scaled, channels, axis=1)

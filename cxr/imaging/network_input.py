"""The one way from a decoded image to 8 bits at network size, for the classifier, the detector and its exports."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from cxr.config import UserError
from cxr.imaging.files import GrayImage, Pixels
from cxr.imaging.geometry import Resize

NetImage = npt.NDArray[np.uint8]
"""An image at network size: (H, W), or (H, W, 3) where the channels differ."""

_BAND = 64
"""Output rows per step. The data of one band stays in the processor's cache and its memory is reused. Arrays of the
whole image's size would be allocated anew each time, which takes longer than the arithmetic."""


def to_net_image(image: Pixels, resize: Resize) -> NetImage:
    """Stretch an image from its own minimum and maximum to 0 and 255, resize it and round to 8 bits.

    Raw value ranges differ by vendor, hence the stretch. A scale of the values has no influence, so the image can come
    from `read_image` or, undivided, from `read_pixels`. The resized image is stretched, not the original: averaging and
    stretching commute, and the small image is cheaper.

    Args:
        image: (H, W) uint8, uint16 or float32.
        resize: the transform from `image.shape` to the network's size.

    Returns:
        (h, w) uint8 of `resize.net_hw`. Letterbox bars are 0. An image of equal pixels becomes black.

    Raises:
        UserError: the image has no pixels.
    """
    if not image.size:
        raise UserError(f"image: {image.shape[0]} x {image.shape[1]} pixels (H x W), expected at least one")
    assert image.shape == resize.image_hw, f"image is {image.shape}, transform is for {resize.image_hw}"
    low, high, _, _ = cv2.minMaxLoc(image)
    canvas = np.zeros(resize.net_hw, dtype=np.uint8)
    if high > low:
        top, left = resize.offset_yx
        for band in _resized(image, resize.content_hw, low):
            stretched = cv2.convertScaleAbs(band, alpha=255 / (high - low))  # rounds half to even, as numpy does
            canvas[top : top + len(band), left : left + band.shape[1]] = stretched
            top += len(band)
    return canvas


def _resized(image: Pixels, size_hw: tuple[int, int], low: float) -> Iterable[GrayImage]:
    """The resized image minus `low`, in bands of rows: area averaging when shrinking, linear when growing."""
    height, width = size_hw
    shrinks = height * width < image.size
    if shrinks and height <= image.shape[0] and width <= image.shape[1]:
        return averaged_bands(image, size_hw, low=low)
    from_zero = (image - image.dtype.type(low)).astype(np.float32, copy=False)
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return [cv2.resize(from_zero, (width, height), interpolation=method).reshape(size_hw)]


def averaged_bands(image: Pixels, size_hw: tuple[int, int], *, low: float = 0.0) -> Iterator[GrayImage]:
    """Area averaging, equal to OpenCV's INTER_AREA to float precision and about 2 to 4 times as fast (bench_resize.py).

    Each output pixel is the mean of the area that it covers, minus `low`. The weights are products of a weight in x and
    a weight in y, so a band is multiplied by one sparse matrix per axis.

    Args:
        image: (H, W) uint8, uint16 or float32.
        size_hw: output size (h, w) with h <= H and w <= W.
        low: a value of the image's type that no pixel is below.

    Yields:
        (n, w) float32: the output's rows from the top, at most 64 at once.
    """
    height, width = size_hw
    across = _weights(image.shape[1], width)
    for top in range(0, height, _BAND):
        first, down = _band(image.shape[0], height, top)
        old = image[first : first + down.shape[1]]
        if low:
            old = old - image.dtype.type(low)  # before summing, so that sums of large values stay exact
        rows = down @ old.astype(np.float32, copy=False)
        columns = across @ cv2.transpose(rows).reshape(image.shape[1], len(rows))
        yield cv2.transpose(columns).reshape(len(rows), width)


@lru_cache(maxsize=64)
def _weights(num_old: int, num_new: int) -> csr_array:
    """(num_new, num_old): the weight of each input pixel in each output pixel along one axis; rows sum to 1."""
    step = num_old / num_new
    ends = np.concatenate([np.arange(num_old + 1.0), np.arange(1, num_new) * step])
    ends.sort()
    middles, lengths = (ends[1:] + ends[:-1]) / 2, np.diff(ends)
    places = (middles / step).astype(np.int32), middles.astype(np.int32)
    return csr_array(((lengths / step).astype(np.float32), places), shape=(num_new, num_old))


@lru_cache(maxsize=1024)
def _band(num_old: int, num_new: int, top: int) -> tuple[int, csr_array]:
    """The first input row and the weights of the input rows from there on, for the band that starts at row `top`."""
    own = _weights(num_old, num_new)[top : top + _BAND]
    first, last = int(own.indices.min()), int(own.indices.max())
    return first, own[:, first : last + 1]

"""Area averaging as OpenCV's INTER_AREA, several times as fast: of a whole radiograph it would be most of the work that
is not the network's."""

from collections.abc import Iterator
from functools import lru_cache

import cv2
import numpy as np
from scipy.sparse import csr_array

from cxr.imaging.files import GrayImage, Pixels

_BAND = 64
"""New rows at once. What a band needs stays in the processor's cache, and the memory of the last one is used again;
arrays of the whole picture's size would be fetched from the system each time, which takes longer than the sums."""


def averaged_bands(image: Pixels, size_hw: tuple[int, int], *, low: float = 0.0) -> Iterator[GrayImage]:
    """(H, W) to (h, w), no larger either way, in bands of rows from the top: (n, w) float32 each.

    A new pixel is the mean of the area that it covers, minus `low`. Its weights are products of one in x and one in y,
    so a band is multiplied by a sparse matrix from either side, first by the one that works on whole rows.

    Args:
        image: uint8, uint16 or float32; no value is below `low`, which is one of its type.
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
    """(num_new, num_old): the share of each old pixel in each new one along one axis; rows sum to 1."""
    step = num_old / num_new
    ends = np.concatenate([np.arange(num_old + 1.0), np.arange(1, num_new) * step])
    ends.sort()
    middles, lengths = (ends[1:] + ends[:-1]) / 2, np.diff(ends)
    places = (middles / step).astype(np.int32), middles.astype(np.int32)
    return csr_array(((lengths / step).astype(np.float32), places), shape=(num_new, num_old))


@lru_cache(maxsize=1024)
def _band(num_old: int, num_new: int, top: int) -> tuple[int, csr_array]:
    """First old row, and the weights of the old rows from there on, for the new rows of the band from `top` on."""
    own = _weights(num_old, num_new)[top : top + _BAND]
    first, last = int(own.indices.min()), int(own.indices.max())
    return first, own[:, first : last + 1]

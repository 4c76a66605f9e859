"""What all image decoders have in common: the limit on pixels, and the one rule for what an exception means."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cxr.config import UserError

GrayImage = npt.NDArray[np.float32]

Pixels = npt.NDArray[Any]
"""(H, W) uint8, uint16 or float32."""

MAX_PIXELS = 200_000_000
"""Images with more pixels are refused before they are decoded; a chest radiograph has at most about 20 million."""

_SHOWN_REASON = 300


class UnusableError(Exception):
    """The image of a file cannot be used; the message says why."""


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Whatever a decoder raises means that the file is damaged or of an unknown kind: one UserError with its name.

    Only lack of memory is no property of the file: the sizes that it claims are checked before decoding.
    """
    try:
        yield
    except (MemoryError, UserError):
        raise
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(f"{name}: {error}") from None
        raise UserError(f"image: cannot decode {name}: OpenCV refuses it ({error.err})") from None
    except UnusableError as error:
        raise UserError(f"image: cannot decode {name}: {error}") from None
    except Exception as error:
        # of a buffer that is too short, the text is of use to programmers only
        text = "" if isinstance(error, struct.error) else " ".join(str(error).split())[:_SHOWN_REASON]
        reason = f" ({text})" if text else ""
        raise UserError(f"image: cannot decode {name}: it is damaged or of an unknown kind{reason}") from None


def check_size(height: int, width: int, *, max_pixels: int) -> None:
    """UnusableError unless an image has 1 to `max_pixels` pixels."""
    if not (height > 0 and width > 0 and height * width <= max_pixels):
        raise UnusableError(f"it has {width} x {height} pixels, expected 1 to {max_pixels} in total")


def check_contrast(pixels: Pixels) -> None:
    """UnusableError if all pixels of an image (H, W) are equal, or some are not finite numbers."""
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise UnusableError("it has pixels that are not finite numbers")
    few = pixels[::97, ::89]  # decides for all but blank images, in no time
    if few.min() == few.max() and pixels.min() == pixels.max():
        raise UnusableError("all its pixels are equal")


def min_max(image: npt.NDArray[Any], *, low: float | None = None, high: float | None = None) -> GrayImage:
    """Stretch values from [low, high] to [0, 1]; by default from minimum to maximum. All zeros if high <= low."""
    low = float(image.min()) if low is None else low
    high = float(image.max()) if high is None else high
    if high <= low:
        return np.zeros(image.shape, dtype=np.float32)
    kind = np.float32 if np.can_cast(image.dtype, np.float32) else np.float64  # large numbers keep their differences
    wide: npt.NDArray[Any] = image.astype(kind)
    return ((wide - low) / (high - low)).astype(np.float32)

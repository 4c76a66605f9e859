"""From the stored values of a DICOM file to grey values: modality table, window, padding, inversion.

pydicom computes the tables and windows. Before that, what the header says about them is checked and completed, since
pydicom takes most of it on trust: bits, number of entries, signs, and values that are there but empty.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence

from cxr.imaging.decoding import GrayImage, UnusableError, min_max

_ROWS_AT_ONCE = 64
_SHOWN = 80
"""Characters of a value that a reason shows."""
_TABLE_BITS = (8, *range(10, 17))

Values = npt.NDArray[Any]


def grey_of(stored: Values, dicom: FileDataset) -> GrayImage:
    """Stored values to grey in [0, 1], bone bright: stretched by the minimum and maximum of the pixels without padding.

    The grey of a pixel depends on its own value alone. If an image has more pixels than possible values, the greys are
    looked up in a table of all values between its minimum and maximum; the result is the same to the bit.

    Args:
        stored: (H, W) integers or floats.

    Returns:
        (H, W) float32. Padding is 0.

    Raises:
        UnusableError, ValueError: a table or window is invalid, or leaves no image.
    """
    padding = _padding_mask(stored, dicom)
    real = stored if padding is None else stored[~padding]
    if not real.size:
        raise UnusableError("all its pixels are padding")
    # Presentation LUT Shape must say the same (PS3.3, C.7.6.1); it is not read, since some machines write a wrong one
    is_inverted = dicom.PhotometricInterpretation == "MONOCHROME1"
    low, high = (int(real.min()), int(real.max())) if stored.dtype.kind in "ui" else (0, stored.size)
    if high - low >= stored.size:
        grey = _stretched(shown_values(stored, dicom), real=None if padding is None else ~padding)
        grey = 1 - grey if is_inverted else grey
    else:
        grey = _looked_up(stored, _table(real, (low, high), dicom, is_inverted=is_inverted), low)
    if padding is not None:
        grey[padding] = 0
    return grey


def shown_values(values: Values, dicom: FileDataset) -> Values:
    """Apply the modality table or rescaling, then the grey table or window.

    Raises:
        UnusableError, ValueError: a table or window is invalid.
    """
    integers = values.astype(np.int64) if values.dtype.kind in "ui" else values  # differences must not wrap around
    with np.errstate(over="ignore"):  # checked below
        rescaled = np.asarray(apply_modality_lut(integers, _modality(integers, dicom)))
    if not np.isfinite(rescaled).all():
        raise UnusableError("its rescaled values are not finite numbers")
    if rescaled.dtype.kind == "f" and (rescaled == np.rint(rescaled)).all() and abs(rescaled).max() < 2**53:
        rescaled = rescaled.astype(np.int64)
    with np.errstate(over="ignore"):  # far outside of a sigmoid window
        return np.asarray(apply_voi_lut(rescaled, _window(rescaled, dicom), index=0))


def _table(real: Values, low_high: tuple[int, int], dicom: FileDataset, *, is_inverted: bool) -> GrayImage:
    """The grey of each stored value from the lowest to the highest of `real`."""
    low, high = low_high
    values = shown_values(np.arange(low, high + 1), dicom)
    # compared, not subtracted: differences of unsigned numbers would wrap around
    is_monotone = bool((values[1:] >= values[:-1]).all() or (values[1:] <= values[:-1]).all())
    # the image contains its lowest and highest stored value, but not always those between
    there = values[[0, -1]] if is_monotone else values[np.unique(real).astype(np.int64) - low]
    _check_range(there)
    table = min_max(values, low=float(there.min()), high=float(there.max()))
    return 1 - table if is_inverted else table


def _looked_up(stored: Values, table: GrayImage, low: int) -> GrayImage:
    grey = np.empty(stored.shape, dtype=np.float32)
    kind = np.int64 if stored.dtype.kind == "i" else stored.dtype  # a signed difference may be too large for its type
    for top in range(0, len(stored), _ROWS_AT_ONCE):  # a few rows at once fit into the processor's cache
        index = np.subtract(stored[top : top + _ROWS_AT_ONCE], low, dtype=kind)
        np.take(table, index, out=grey[top : top + _ROWS_AT_ONCE], mode="clip")  # only padding can be outside
    return grey


def _stretched(values: Values, *, real: npt.NDArray[np.bool_] | None) -> GrayImage:
    there = values if real is None else values[real]
    _check_range(there)
    return min_max(values, low=float(there.min()), high=float(there.max()))


def _check_range(values: Values) -> None:
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UnusableError("its grey values are not finite numbers")
    if low == high:
        raise UnusableError("all its pixels are equal after its tables and window")


def _padding_mask(stored: Values, dicom: FileDataset) -> npt.NDArray[np.bool_] | None:
    """(H, W) True where a pixel is padding (0028,0120), up to its limit (0028,0121); None if there is none.

    Pixels in floats have elements of their own (0028,0122 to 0028,0125).
    """
    kind = {"f4": "Float", "f8": "DoubleFloat"}.get(stored.dtype.str[1:], "")
    first = _first(dicom.get(f"{kind}PixelPaddingValue"))
    if first is None:
        return None
    last = _first(dicom.get(f"{kind}PixelPaddingRangeLimit"))
    ends = sorted(_as_stored(value, stored.dtype) for value in (first, first if last is None else last))
    mask = (stored >= ends[0]) & (stored <= ends[1])
    return mask if mask.any() else None


def _as_stored(value: Any, dtype: np.dtype[Any]) -> float:
    """The value in the type of the pixels: files give it with or without a sign, whatever the pixels have."""
    number = _finite(value, "padding value")
    if dtype.kind == "f":
        return float(dtype.type(number))
    whole, bits, limits = int(number), 8 * dtype.itemsize, np.iinfo(dtype)
    return whole if limits.min <= whole <= limits.max else (whole - limits.min) % 2**bits + limits.min


def _modality(values: Values, dicom: FileDataset) -> Dataset:
    """The checked part of a header that `apply_modality_lut` uses."""
    table = _checked_table(dicom.get("ModalityLUTSequence"), values, dicom)
    checked = Dataset()
    if table is not None:
        checked.ModalityLUTSequence = Sequence([table])
        return checked
    slope, intercept = dicom.get("RescaleSlope"), dicom.get("RescaleIntercept")
    if slope is None and intercept is None:
        return checked
    checked.RescaleSlope = _finite(1 if slope in (None, "") else slope, "rescale slope")
    checked.RescaleIntercept = _finite(0 if intercept in (None, "") else intercept, "rescale intercept")
    return checked


def _window(values: Values, dicom: FileDataset) -> Dataset:
    """The checked part of a header that `apply_voi_lut` uses.

    It has neither slope nor inversion, with which pydicom would turn the window around. A window's output range is
    arbitrary, as the result is stretched.
    """
    checked = Dataset()
    checked.PhotometricInterpretation = "MONOCHROME2"
    checked.BitsStored = int(dicom.get("BitsStored") or dicom.BitsAllocated)
    checked.PixelRepresentation = int(dicom.get("PixelRepresentation") or 0)
    table = _checked_table(dicom.get("VOILUTSequence"), values, dicom)
    if table is not None:
        checked.VOILUTSequence = Sequence([table])
        return checked
    center, width = _first(dicom.get("WindowCenter")), _first(dicom.get("WindowWidth"))
    if None in (center, width) or _finite(width, "window width") == 0:  # not filled in
        return checked
    checked.WindowCenter, checked.WindowWidth = _finite(center, "window center"), _finite(width, "window width")
    checked.VOILUTFunction = dicom.get("VOILUTFunction") or "LINEAR"
    return checked


def _first(value: Any) -> Any:
    """The first of several values; None for an empty one."""
    several = not isinstance(value, str) and hasattr(value, "__iter__")
    one = next(iter(value), None) if several else value
    return None if one == "" else one


def _finite(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UnusableError(f"its {what} is {str(value)[:_SHOWN]!r}, expected a finite number")
    return number


def _checked_table(items: Any, values: Values, dicom: FileDataset) -> Dataset | None:
    """The first item of a table sequence with 16 bits an entry; None if there is none or it is empty.

    values: what the table is applied to; they decide whether its first mapped value has a sign.
    """
    if not items:
        return None
    descriptor, data = items[0].get("LUTDescriptor"), items[0].get("LUTData")
    if not descriptor and not data:
        return None
    if not descriptor or len(descriptor) != 3:
        raise UnusableError(f"the descriptor of a grey table is {descriptor}, expected three numbers")
    count, first, bits = (int(number) for number in descriptor)
    count = count % 2**16 or 2**16
    entries = _entries(data, count, is_little_endian=dicom.original_encoding[1])
    if bits not in _TABLE_BITS or len(entries) != count or entries.max() >= 2**bits:
        raise UnusableError(
            f"a grey table has {len(entries)} entries up to {entries.max(initial=0)}, its descriptor says {count} of "
            f"{bits} bits"
        )
    if count == 1:
        raise UnusableError("a grey table has one entry, which makes all its pixels equal")
    checked = Dataset()
    checked.add_new(0x00283002, "SL", [count, _first_mapped(first, count, values), 16])
    checked.add_new(0x00283006, "UL", entries.tolist())
    return checked


def _entries(data: Any, count: int, *, is_little_endian: bool) -> npt.NDArray[np.int64]:
    """The entries of a table: numbers, or bytes with one or two bytes an entry."""
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray([] if data is None else data, dtype=np.int64)) % 2**16
    if len(data) < 2 * count and len(data) == count + count % 2:
        return np.frombuffer(data, dtype=np.uint8)[:count].astype(np.int64)
    return np.frombuffer(data, dtype="<u2" if is_little_endian else ">u2").astype(np.int64)


def _first_mapped(first: int, count: int, values: Values) -> int:
    """The first mapped value with the sign that lets the table meet the values: headers give it with either sign."""
    low, high = values.min(), values.max()
    for start in (first, first - 2**16, first + 2**16):
        if start <= high and start + count > low:
            return start
    return first

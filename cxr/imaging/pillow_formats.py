"""Decode grey images of the rarer formats that Pillow reads: TIFF, BMP, GIF, WebP, JPEG 2000 and PGM.

Pillow says little about what it makes of a TIFF file, so the file's own tags decide on sign, polarity and pages.
"""

import zlib
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from cxr.imaging.codestream import is_packed
from cxr.imaging.decoding import Pixels, UnusableError, min_max
from cxr.imaging.jpeg import check_jpeg

_FORMATS = ("TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
"""Pillow's others are not for radiographs, and for one of them (EPS) it starts a program."""

_MAX_PAGES = 100
_REDUCED, _MASK = 1, 4
"""Bits of TIFF's NewSubfileType: a page that is a smaller copy of another, or its mask."""
_WHITE_IS_ZERO = 0
_SIGNED = 2
_JPEG, _DEFLATE, _PACKBITS = (7,), (8, 32946), (32773,)
"""Values of TIFF's Compression."""
_STEP_BYTES = 2**20

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ROWS, _PLANES = 254, 256, 257, 258, 259, 262, 278, 284
_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES, _SAMPLE_FORMAT, _JPEG_TABLES = 273, 279, 324, 325, 339, 347


def opened(file: BinaryIO) -> Image.Image:
    """The image of a file, whose pixels are not decoded yet. UnusableError for a file of no known format."""
    try:
        return Image.open(file, formats=_FORMATS)
    except (UnidentifiedImageError, ImportError):
        # ImportError: once ultralytics is loaded, Pillow's open is its own, which looks for a HEIF package here
        raise UnusableError("it is damaged, or not a PNG, JPEG or DICOM file") from None


def read_with_pillow(data: bytes) -> Pixels:
    """Decode the bytes of an image of one page, upright; colours become grey.

    Returns:
        (H, W) uint8 or uint16, bone bright; float32 in [0, 1] for other types.

    Raises:
        Exception: the file is damaged, of an unknown format or of several pages; see `decoding`.
    """
    with opened(BytesIO(data)) as image:
        _check_one_page(image)
    with opened(BytesIO(data)) as image:
        tags = dict(image.tag_v2) if isinstance(image, TiffImageFile) else {}
        _check_data(data, tags)
        upright = ImageOps.exif_transpose(image)
        has_more_bits = upright.mode.startswith(("I", "F"))
        pixels = np.asarray(upright if has_more_bits else upright.convert("L"))
    pixels = _as_tags_say(pixels, tags, has_more_bits=has_more_bits)
    if pixels.dtype.kind == "u" and pixels.itemsize <= 2:
        return pixels
    if not np.isfinite(pixels).all():
        raise UnusableError("it has pixels that are not finite numbers")
    return min_max(pixels)


def _check_one_page(image: Image.Image) -> None:
    """UnusableError if there are more images than one and its smaller copies: nobody knows which one is meant."""
    if not isinstance(image, TiffImageFile):
        pages = getattr(image, "n_frames", 1)
        if pages > 1:
            raise UnusableError(f"it has {pages} frames, expected one")
        return
    for page in range(1, _MAX_PAGES):
        try:
            image.seek(page)
        except EOFError:
            return
        if not int(image.tag_v2.get(_SUBFILE, 0)) & (_REDUCED | _MASK):
            break
    raise UnusableError("it has several pages, expected one")


def _as_tags_say(pixels: Pixels, tags: dict[int, Any], *, has_more_bits: bool) -> Pixels:
    """Stored values of a TIFF file with their sign, bone bright. Pillow gives signs and polarity of some types only."""
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    kind = tags.get(_SAMPLE_FORMAT, (1,))[0]
    if kind == _SIGNED and pixels.dtype == np.uint8:
        return pixels.view(np.int8)
    if kind != _SIGNED and pixels.dtype == np.int32 and tags.get(_BITS) == (32,):
        pixels = pixels.view(np.uint32)
    if has_more_bits and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        return np.asarray(pixels.max() - pixels)
    return pixels


def _check_data(data: bytes, tags: dict[int, Any]) -> None:
    """Decode the parts of a TIFF file strictly, where libtiff ignores damage.

    Raises:
        UnusableError, ValueError, zlib.error: a part is damaged.
    """
    kind = tags.get(_COMPRESSION)
    if kind not in _JPEG + _DEFLATE + _PACKBITS:
        return
    starts = tags.get(_STRIPS) or tags.get(_TILES) or ()
    sizes = tags.get(_STRIP_BYTES) or tags.get(_TILE_BYTES) or ()
    for number, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        part = data[start : start + size]
        if kind in _JPEG:
            tables = tags.get(_JPEG_TABLES, b"")
            check_jpeg(tables[:-2] + part[2:] if tables else part)
        elif kind in _DEFLATE:
            _check_deflated(part)
        elif _STRIPS in tags:
            _check_packed(part, tags, number)


def _check_deflated(part: bytes) -> None:
    inflate = zlib.decompressobj()
    while not inflate.eof:
        if not inflate.decompress(part, _STEP_BYTES) and not inflate.eof:
            raise UnusableError("a part of it is cut off")
        part = inflate.unconsumed_tail


def _check_packed(part: bytes, tags: dict[int, Any], number: int) -> None:
    """Strip `number` of an image; those of colours in planes are left to libtiff."""
    if tags.get(_PLANES, 1) != 1:
        return
    rows_a_strip = min(tags.get(_ROWS, tags[_HEIGHT]), tags[_HEIGHT])
    rows = min(rows_a_strip, tags[_HEIGHT] - number * rows_a_strip)
    if not is_packed(part, rows * -(-tags[_WIDTH] * sum(tags.get(_BITS, (1,))) // 8)):
        raise UnusableError("a part of it does not hold its pixels: it is damaged")

"""Decode grey images from PNG, JPEG and what else Pillow reads, such as TIFF. Damaged files are refused, not guessed.

PNG has a checksum for each of its parts. JPEG has none: libjpeg warns if the data does not fit, and here every warning
means damage; a changed bit that leaves valid data stays unseen. Images are turned upright as their EXIF data says.
"""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from cxr.imaging.decoding import Pixels, UnusableError, check_size
from cxr.imaging.jpeg import JPEG_START, check_jpeg, check_jpeg_scans, jpeg_colours
from cxr.imaging.pillow_formats import opened, read_with_pillow

PNG_START = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})
"""EXIF orientations that exchange height and width."""

_MAX_CHUNKS = 2**17
_DEFLATE_RATIO = 1040
"""Deflate compresses at most 1032 to 1, so less data cannot hold the pixels that a header claims."""
_BYTES_PER_PIXEL = 4
"""With the limit on pixels this limits memory: colours of 16 bits take up to eight bytes a pixel, grey takes two."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Channels of PNG's colour types."""
_BEFORE_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS"})
_PIXEL_PARTS = _BEFORE_PIXELS | {b"IDAT", b"IEND"}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Passes of an interlaced PNG: first column and row, and the steps between columns and rows."""
_OPTIONAL = 0x20
"""Bit of the first letter of a part's name: a decoder may leave the part out."""


class _Header(NamedTuple):
    """Size as stored, and EXIF orientation (1: upright)."""

    height: int
    width: int
    orientation: int


class _Chunk(NamedTuple):
    kind: bytes
    start: int
    length: int


def read_raster(data: bytes, *, max_pixels: int) -> Pixels:
    """Decode the bytes of an image, upright; colours become grey.

    Returns:
        (H, W) uint8 or uint16, bone bright; float32 in [0, 1] for other types.

    Raises:
        Exception: the file is damaged, too large or of an unknown kind; see `decoding`.
    """
    header = _header(BytesIO(data))
    check_size(header.height, header.width, max_pixels=max_pixels)
    if data.startswith(PNG_START):
        _check_png(data, max_bytes=_BYTES_PER_PIXEL * max_pixels)
        return _upright(_grey(_by_opencv(_pixel_parts(data))), header.orientation)
    if data.startswith(JPEG_START):
        return _upright(_read_jpeg(data), header.orientation)
    return read_with_pillow(data)


def raster_header(file: BinaryIO) -> tuple[tuple[int, int], bool]:
    """Height and width of the upright image, and whether it is stored otherwise. Exception as `read_raster`."""
    header = _header(file)
    size_hw = (header.height, header.width)
    return size_hw[::-1] if header.orientation in _SIDEWAYS else size_hw, header.orientation != 1


def _header(file: BinaryIO) -> _Header:
    start = file.read(len(PNG_START))
    file.seek(0)
    if start == PNG_START:
        return _png_header(file)
    if start.startswith(JPEG_START):
        with JpegImageFile(file) as image:  # Image.open has a limit of its own, and other packages replace it
            return _Header(image.height, image.width, _orientation(image.info.get("exif") or b""))
    with opened(file) as image:
        is_upright = image.format == "TIFF"  # Pillow itself turns TIFF
        return _Header(image.height, image.width, 1 if is_upright else _orientation(image.info.get("exif") or b""))


def _orientation(exif: bytes) -> int:
    """1 to 8; 1 if there is none or it cannot be read, as viewers do."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        value = tags.get(_ORIENTATION, 1)
    except Exception:  # Pillow's parser raises many kinds for damaged tags
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn or mirror a stored image (H, W) as its EXIF orientation says."""
    if orientation in _SIDEWAYS:
        pixels = pixels.T
    mirrored_x, mirrored_y = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    pixels = pixels[:, ::-1] if mirrored_x else pixels
    return pixels[::-1] if mirrored_y else pixels


def _png_header(file: BinaryIO) -> _Header:
    """The header, read up to the pixels; EXIF data must come before them."""
    width, height = struct.unpack(">8x4x4sII", file.read(24))[1:]
    file.seek(len(PNG_START))
    for _ in range(_MAX_CHUNKS):
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"eXIf":
            return _Header(height, width, _orientation(file.read(length)))
        if kind == b"IDAT":
            break
        file.seek(length + 4, 1)
    return _Header(height, width, 1)


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """The parts of a PNG up to its end. struct.error if the file is cut off."""
    at = len(PNG_START)
    for _ in range(_MAX_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield _Chunk(kind, at + 8, length)
        if kind == b"IEND":
            return
        at += length + 12
    raise UnusableError(f"it has more than {_MAX_CHUNKS} parts")


def _check_png(data: bytes, *, max_bytes: int) -> None:
    """UnusableError if a checksum is wrong, if viewers may differ in how they turn the image, or if the size in the
    header is too large for the data or for memory."""
    content, held = memoryview(data), 0
    for kind, start, length in _chunks(data):
        (checksum,) = struct.unpack_from(">I", data, start + length)
        if zlib.crc32(content[start - 4 : start + length]) != checksum:
            raise UnusableError(f"it is damaged: the checksum of its part {kind!r} is wrong")
        held += length if kind == b"IDAT" else 0
        if kind == b"eXIf" and held and _orientation(data[start : start + length]) != 1:
            raise UnusableError("its EXIF orientation comes after its pixels, where few viewers look; save it upright")
    width, height, bits, colour = struct.unpack_from(">IIBB", data, len(PNG_START) + 8)
    num_bytes = height * width * bits * _CHANNELS[colour] // 8
    if num_bytes > max_bytes:
        raise UnusableError(f"it decodes to {num_bytes} bytes, expected at most {max_bytes}; save it in grey")
    if held * _DEFLATE_RATIO < num_bytes:
        raise UnusableError(f"it claims {width} x {height} pixels, but {held} bytes cannot hold them")


def _pixel_parts(data: bytes) -> bytes:
    """The PNG without texts, profiles and other parts that do not change its pixels, and with its pixels unpacked.

    libpng writes to standard error what it finds wrong in the other parts, with names that may be a patient's. It
    unpacks all that follows the last row, too: minutes for a file of 10 MB that holds 10 GB of zeros.

    Raises:
        UnusableError: an unknown part that must not be left out.
        zlib.error: the packed pixels are damaged.
    """
    chunks = list(_chunks(data))
    others = [chunk.kind for chunk in chunks if chunk.kind not in _PIXEL_PARTS]
    if unknown := [kind for kind in others if not kind[0] & _OPTIONAL]:
        raise UnusableError(f"it has an unknown part {unknown[0]!r}")
    content = memoryview(data)
    packed = b"".join(content[start : start + length] for kind, start, length in chunks if kind == b"IDAT")
    rows = zlib.decompressobj().decompress(packed, _num_bytes(data))
    kept = [content[start - 8 : start + length + 4] for kind, start, length in chunks if kind in _BEFORE_PIXELS]
    return b"".join([PNG_START, *kept, *_as_chunk(b"IDAT", zlib.compress(rows, 0)), *_as_chunk(b"IEND", b"")])


def _as_chunk(kind: bytes, content: bytes) -> tuple[bytes, bytes, bytes]:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I4s", len(content), kind), content, struct.pack(">I", checksum)


def _num_bytes(data: bytes) -> int:
    """Bytes of the rows of a PNG, each with the number of its filter."""
    width, height, bits, colour, is_interlaced = struct.unpack_from(">IIBBxxB", data, len(PNG_START) + 8)
    passes = _ADAM7 if is_interlaced else ((0, 0, 1, 1),)
    sizes = [(len(range(x, width, dx)), len(range(y, height, dy))) for x, y, dx, dy in passes]
    return sum(rows * (1 + -(-columns * bits * _CHANNELS[colour] // 8)) for columns, rows in sizes if columns)


def _by_opencv(data: bytes) -> Pixels:
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    if pixels is None:
        raise UnusableError("it is damaged, or not a PNG, JPEG or DICOM file")
    return np.asarray(pixels)


def _grey(pixels: Pixels) -> Pixels:
    if pixels.ndim == 2:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2GRAY if pixels.shape[2] == 4 else cv2.COLOR_BGR2GRAY))


def _read_jpeg(data: bytes) -> Pixels:
    check_jpeg_scans(data)
    if jpeg_colours(data) == "CMYK":
        check_jpeg(data)
        return _grey(_by_opencv(data))
    return np.asarray(simplejpeg.decode_jpeg(data, "GRAY", strict=True)[:, :, 0])

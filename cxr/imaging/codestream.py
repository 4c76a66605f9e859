"""Check a compressed frame inside DICOM before it is decoded: its own size, its end and, for JPEG, its data."""

import struct

from cxr.imaging.decoding import UnusableError
from cxr.imaging.raster import check_jpeg, check_jpeg_scans

_JPEG_START, _END = b"\xff\xd8", b"\xff\xd9"
_J2K_START, _JP2_START = b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "
_BASELINE = 0xC0
"""Frame header of the usual JPEG. With one channel libjpeg refuses a second scan itself."""
_HUFFMAN_FRAMES = frozenset({_BASELINE, 0xC1, 0xC2})
"""Frame headers of the JPEGs that libjpeg decodes."""
_OTHER_FRAMES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7})
"""Frame headers of lossless, arithmetic and JPEG-LS files."""


def check_codestream(frame: bytes, size_hw: tuple[int, int]) -> None:
    """Refuse a frame of JPEG, JPEG-LS or JPEG 2000 that contradicts the DICOM header or is cut off.

    Frames of other kinds, such as RLE, are left to their decoder, which knows the size.

    Raises:
        UnusableError, struct.error, ValueError: the frame is damaged, has more than one channel, is of another size,
            or has very many scans.
    """
    if frame.startswith(_JPEG_START):
        kind, bits, height, width, channels = _jpeg_header(frame)
        own_hw = height, width
        if (kind, bits) != (_BASELINE, 8):
            check_jpeg_scans(frame)
    elif frame.startswith((_J2K_START, _JP2_START)):
        own_hw, channels = _j2k_header(frame)
        kind, bits = 0, 0
    else:
        return
    if own_hw != size_hw or channels != 1:
        raise UnusableError(
            f"its header claims {size_hw[1]} x {size_hw[0]} pixels in 1 channel, but the frame has "
            f"{own_hw[1]} x {own_hw[0]} in {channels}"
        )
    if not frame.rstrip(b"\0\xff").endswith(_END):  # fragments are padded to an even length
        raise UnusableError("its frame is cut off")
    if kind in _HUFFMAN_FRAMES and bits == 8:
        check_jpeg(frame)


def _jpeg_header(frame: bytes) -> tuple[int, int, int, int, int]:
    """Kind of the frame header, bits, height, width and channels."""
    at = len(_JPEG_START)
    while True:
        marker, kind, length = struct.unpack_from(">BBH", frame, at)
        if marker != 0xFF:
            raise UnusableError("its frame is damaged: a marker is missing")
        if kind in _HUFFMAN_FRAMES | _OTHER_FRAMES:
            return (kind, *struct.unpack_from(">BHHB", frame, at + 4))
        at += 1 if kind == 0xFF else 2 + length  # markers may be preceded by more bytes 0xFF


def _j2k_header(frame: bytes) -> tuple[tuple[int, int], int]:
    """Height and width, and channels."""
    at = frame.index(_J2K_START) + len(_J2K_START) + 4  # after the segment's length and capabilities
    right, bottom, left, top = struct.unpack_from(">IIII", frame, at)
    (channels,) = struct.unpack_from(">H", frame, at + 32)
    return (bottom - top, right - left), channels

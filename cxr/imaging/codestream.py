"""Check a compressed frame inside DICOM before it is decoded: its own size, its end and, for JPEG and RLE, its data.

JPEG 2000 is not decoded strictly: of a block of zeros its decoder makes small errors around it, and it does not warn.
"""

import struct

from cxr.imaging.decoding import UnusableError
from cxr.imaging.jpeg import check_jpeg, check_jpeg_scans

_JPEG_START, _END = b"\xff\xd8", b"\xff\xd9"
_J2K_START, _JP2_START = b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "
_BASELINE = 0xC0
"""Frame header of the usual JPEG. With one channel libjpeg refuses a second scan itself."""
_HUFFMAN_FRAMES = frozenset({_BASELINE, 0xC1, 0xC2})
"""Frame headers of the JPEGs that libjpeg decodes."""
_LOSSLESS = 0xC3
"""Frame header of a lossless JPEG with Huffman codes, which libjpeg decodes too."""
_OTHER_FRAMES = frozenset({_LOSSLESS, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7})
"""Frame headers of lossless, arithmetic and JPEG-LS files."""

_NO_CODE = 128
"""Byte of PackBits that stands for nothing."""
_FILLING = bytes((0, _NO_CODE))


def check_codestream(frame: bytes, size_hw: tuple[int, int]) -> None:
    """Refuse a frame of JPEG, JPEG-LS or JPEG 2000 that contradicts the DICOM header or is cut off.

    RLE has a check of its own, `check_rle`.

    Raises:
        UnusableError, struct.error, ValueError: the frame is damaged, has more than one channel, is of another size,
            or has very many scans.
    """
    if frame.startswith(_JPEG_START):
        at, kind = _frame_header(frame)
        bits, height, width, channels = struct.unpack_from(">BHHB", frame, at + 4)
        own_hw = height, width
        if (kind, bits) != (_BASELINE, 8):
            check_jpeg_scans(frame)
    elif frame.startswith((_J2K_START, _JP2_START)):
        own_hw, channels = _j2k_header(frame)
        at, kind = 0, 0
    else:
        return
    if own_hw != size_hw or channels != 1:
        raise UnusableError(
            f"its header claims {size_hw[1]} x {size_hw[0]} pixels in 1 channel, but the frame has "
            f"{own_hw[1]} x {own_hw[0]} in {channels}"
        )
    if not frame.rstrip(b"\0\xff").endswith(_END):  # fragments are padded to an even length
        raise UnusableError("its frame is cut off")
    if kind in _HUFFMAN_FRAMES or kind == _LOSSLESS:
        check_jpeg(_claiming_8_bits(frame, at))


def check_rle(frame: bytes, size_hw: tuple[int, int], num_bytes: int) -> None:
    """Refuse an RLE frame (PS3.5 Annex G) whose segments do not have the pixels of the image, one byte of each.

    Raises:
        UnusableError, struct.error: the frame is damaged.
    """
    count, *starts = struct.unpack_from("<16I", frame)
    if count != num_bytes:
        raise UnusableError(f"its frame has {count} segments, expected {num_bytes}, one for each byte of a pixel")
    num_pixels = size_hw[0] * size_hw[1]
    for start, end in zip(starts[:count], [*starts[1:count], len(frame)], strict=True):
        if not is_packed(frame[start:end], num_pixels):
            raise UnusableError(f"a segment of its frame does not hold {num_pixels} pixels: it is damaged")


def is_packed(packed: bytes, num_bytes: int) -> bool:
    """Whether PackBits data expands to this number of bytes, or one more, which some writers need for an even number.

    Zeros may follow.
    """
    at, held = 0, 0
    while held < num_bytes and at < len(packed):
        code = packed[at]
        if code < _NO_CODE:
            held, at = held + code + 1, at + code + 2
        elif code > _NO_CODE:
            held, at = held + 257 - code, at + 2
        else:
            at += 1
    return held - num_bytes in (0, 1) and at <= len(packed) and not packed[at:].strip(_FILLING)


def _claiming_8_bits(frame: bytes, at: int) -> bytes:
    """The frame with 8 bits in its frame header at `at`. libjpeg checks the codes of 8 bits only; their number of bits
    decides what the decoded values mean, not how they are coded."""
    return frame[: at + 4] + b"\x08" + frame[at + 5 :]


def _frame_header(frame: bytes) -> tuple[int, int]:
    """Place and kind of the frame header of a JPEG."""
    at = len(_JPEG_START)
    while True:
        marker, kind, length = struct.unpack_from(">BBH", frame, at)
        if marker != 0xFF:
            raise UnusableError("its frame is damaged: a marker is missing")
        if kind in _HUFFMAN_FRAMES | _OTHER_FRAMES:
            return at, kind
        at += 1 if kind == 0xFF else 2 + length  # markers may be preceded by more bytes 0xFF


def _j2k_header(frame: bytes) -> tuple[tuple[int, int], int]:
    """Height and width, and channels."""
    at = frame.index(_J2K_START) + len(_J2K_START) + 4  # after the segment's length and capabilities
    right, bottom, left, top = struct.unpack_from(">IIII", frame, at)
    (channels,) = struct.unpack_from(">H", frame, at + 32)
    return (bottom - top, right - left), channels

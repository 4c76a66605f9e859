"""What is checked of JPEG files and frames before they are decoded, whatever they lie in."""

import simplejpeg

from cxr.imaging.decoding import UnusableError

JPEG_START = b"\xff\xd8\xff"

_JPEG_SCAN = b"\xff\xda"
_MAX_SCANS = 100
"""A progressive JPEG has about ten. Each scan is a pass over all pixels and may take a few bytes only."""


def check_jpeg_scans(data: bytes) -> None:
    """UnusableError if a JPEG, also a lossless one, is made to take long to decode.

    The pixel data cannot contain the mark of a scan: JPEG and JPEG-LS put a zero bit after each byte 0xFF.
    """
    if data.count(_JPEG_SCAN) > _MAX_SCANS:
        raise UnusableError(f"it has more than {_MAX_SCANS} scans; save it as an ordinary JPEG")


def check_jpeg(data: bytes) -> None:
    """Decode a JPEG of 8 bits strictly: ValueError if libjpeg warns of damaged data."""
    simplejpeg.decode_jpeg(data, jpeg_colours(data), strict=True)


def jpeg_colours(data: bytes) -> str:
    """The colours to decode to; the grey of a JPEG is its first channel, as stored."""
    colours = simplejpeg.decode_jpeg_header(data, strict=True)[2]
    return "CMYK" if colours in ("CMYK", "YCCK") else "GRAY"

"""Limits on the parts of a DICOM file. pydicom reads each part in Python, so a small file of many takes minutes."""

import struct
from io import BytesIO
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import Tag

from cxr.imaging.decoding import UnusableError

_MAX_READS = 100_000
"""A radiograph's header takes hundreds of reads."""
_MAX_FRAGMENTS = 2**16
_MAX_TABLE_BYTES = 2**22
"""Of all tables of a sequence; the largest single table has 128 KiB."""
_TABLES = ("ModalityLUTSequence", "VOILUTSequence")
_FRAGMENT = 0xFFFEE000


class LimitedFile:
    """A file from which a header can be read, but not one of very many parts."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._num_left = _MAX_READS
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1, /) -> bytes:
        """Read on. UnusableError after very many calls."""
        self._num_left -= 1
        if self._num_left < 0:
            raise UnusableError("its header has too many parts")
        return self._file.read(size)


def check_elements(content: bytes) -> None:
    """UnusableError if the elements of an inflated file have very many parts."""
    read_dataset(LimitedFile(BytesIO(content)), is_implicit_VR=False, is_little_endian=True, specific_tags=[Tag(0)])


def check_tables(dicom: Dataset) -> None:
    """UnusableError if the tables of a file, which are not parsed yet, are larger than tables of grey values can be."""
    for name in _TABLES:
        if name in dicom:
            value = dicom.get_item(name).value
            if isinstance(value, bytes) and len(value) > _MAX_TABLE_BYTES:
                raise UnusableError(f"its {name} has {len(value)} bytes, expected at most {_MAX_TABLE_BYTES}")


def check_fragments(pixel_data: bytes) -> None:
    """UnusableError if compressed pixel data is cut into very many fragments; struct.error if it is cut off."""
    at = 0
    for _ in range(_MAX_FRAGMENTS):
        group, element, length = struct.unpack_from("<HHI", pixel_data, at)
        at += 8 + length
        if group << 16 | element != _FRAGMENT or at >= len(pixel_data):
            return
    raise UnusableError(f"its frame has more than {_MAX_FRAGMENTS} fragments")

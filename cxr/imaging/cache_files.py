"""The files of the picture cache: pixels, index and write lock.

    pictures.bin  uint8 pixels; one slot per picture, all slots of the same size
    index.txt     one line per picture, only appended: crc32 of the rest, a space, an `Entry` as JSON
    lock          locked (flock) by the process that writes

Pixels are written before their line. A killed writer leaves at most one slot without a line, which the next writer
uses, and half a line, which the next writer removes.
"""

import fcntl
import hashlib
import json
import logging
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cxr.config import UserError
from cxr.imaging.network_input import NetImage
from cxr.input_files import open_regular

PIXELS, INDEX, LOCK = "pictures.bin", "index.txt", "lock"

_TAIL_BYTES = 2**16

log = logging.getLogger("raybox")


class Stamp(NamedTuple):
    """Size in bytes and modification time: while both are unchanged, a file counts as unchanged."""

    size: int
    mtime_ns: int


class Entry(NamedTuple):
    """Location of a picture.

    content: blake2b of the file's bytes. crc: crc32 of the slot's pixels. looks: `content_hash` of the image, "" if the
    decoder makes none.
    """

    path: str
    region: str
    size: int
    mtime_ns: int
    content: str
    slot: int
    crc: int
    looks: str = ""


class Index:
    """The parsed index. by_file: (path, region) -> entry. by_content: (content, region) -> entry."""

    def __init__(self, entries: Iterable[Entry], num_slots: int) -> None:
        """The last line of a slot or file counts; slots beyond the file's end are dropped."""
        entries = [entry for entry in entries if entry.slot < num_slots]
        owner = {entry.slot: entry for entry in entries}
        self.next_slot = max(owner, default=-1) + 1
        self.by_file: dict[tuple[str, str], Entry] = {}
        self.by_content: dict[tuple[str, str], Entry] = {}
        for entry in entries:
            last = owner[entry.slot]
            if (entry.content, entry.region) == (last.content, last.region):
                current = entry._replace(crc=last.crc)
                self.by_file[entry.path, entry.region] = current
                self.by_content[entry.content, entry.region] = current

    @classmethod
    def read(cls, folder: Path, slot_bytes: int) -> "Index":
        """The index of a folder; empty if there is none. Damaged lines are skipped and counted in the log."""
        index, data = folder / INDEX, folder / PIXELS
        if not (index.is_file() and data.is_file()):
            return cls([], 0)
        lines = index.read_bytes().split(b"\n")
        entries = [_parse(line) for line in lines[:-1]]
        damaged = entries.count(None)
        if damaged:
            log.warning("%s: %d damaged lines; their pictures are decoded again", index, damaged)
        num_slots = data.stat().st_size // slot_bytes
        return cls([entry for entry in entries if entry is not None], num_slots)


def _parse(line: bytes) -> Entry | None:
    """An entry, or None for a damaged line."""
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    return Entry(*json.loads(body))


class Writer:
    """Writes slots and lines, one picture at a time. Only the process that holds the lock has a writer."""

    def __init__(self, data: int, index: int, slot_bytes: int) -> None:
        self._data, self._index, self._slot_bytes = data, index, slot_bytes
        self._mutex = threading.Lock()
        self.next_slot = 0

    def put(self, picture: NetImage, entry: Entry) -> Entry:
        """Write the pixels into the entry's slot (or the next free one if slot < 0), then the line."""
        assert picture.nbytes == self._slot_bytes, f"{picture.shape} does not fill a slot of {self._slot_bytes}"
        pixels = np.ascontiguousarray(picture).tobytes()
        with self._mutex:
            slot = entry.slot if entry.slot >= 0 else self.next_slot
            _write_all(lambda rest, done: os.pwrite(self._data, rest, slot * self._slot_bytes + done), pixels)
            self.next_slot = max(self.next_slot, slot + 1)
            return self._append(entry._replace(slot=slot, crc=zlib.crc32(pixels)))

    def append(self, entry: Entry) -> Entry:
        """Write only a line: another file whose content already has a slot."""
        with self._mutex:
            return self._append(entry)

    def _append(self, entry: Entry) -> Entry:
        body = json.dumps(entry).encode()
        line = b"%08x %b\n" % (zlib.crc32(body), body)
        _write_all(lambda rest, _: os.write(self._index, rest), line)
        return entry


def _write_all(write: Callable[[memoryview, int], int], content: bytes) -> None:
    """Repeat until all is written: on a full disk the first call writes a part, the next raises an OSError."""
    view, done = memoryview(content), 0
    while done < len(content):
        done += write(view[done:], done)


@contextmanager
def writing(folder: Path, slot_bytes: int) -> Iterator[Writer]:
    """Lock the folder for writing; waits while another process holds the lock.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:
            lock = files.enter_context((folder / LOCK).open("ab"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("waiting for another process that decodes into %s", folder)
                fcntl.flock(lock, fcntl.LOCK_EX)
            index = files.enter_context((folder / INDEX).open("ab+", buffering=0))
            data = os.open(folder / PIXELS, os.O_RDWR | os.O_CREAT, 0o644)
            files.callback(os.close, data)
            _cut_half_a_line(index.fileno())
            yield Writer(data, index.fileno(), slot_bytes)
    except OSError as error:
        raise UserError(
            f"input.cache_dir: cannot write into {folder} ({error.strerror or error}); free some space, give another "
            "folder, or set input.cache_dir=null to decode each picture every time"
        ) from None


def _cut_half_a_line(index: int) -> None:
    size = os.fstat(index).st_size
    start = max(0, size - _TAIL_BYTES)
    tail = os.pread(index, _TAIL_BYTES, start)
    os.ftruncate(index, start + tail.rfind(b"\n") + 1)


def stamp_of(path: str) -> Stamp | None:
    """Size and modification time of a file; None if it does not exist."""
    try:
        status = os.stat(path)  # noqa: PTH116  a Path for each of 200,000 files takes longer
    except OSError:
        return None
    return Stamp(status.st_size, status.st_mtime_ns)


def fingerprint_of(path: str) -> tuple[Stamp, str]:
    """Stamp and content hash of a file.

    Raises:
        UserError: the file cannot be read.
    """
    with open_regular(Path(path)) as file:
        status = os.fstat(file.fileno())
        try:
            content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        except OSError as error:
            raise UserError(f"image: cannot read {path}: {error.strerror or error}; check the disk") from None
    return Stamp(status.st_size, status.st_mtime_ns), content

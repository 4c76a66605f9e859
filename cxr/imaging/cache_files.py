"""The files of the picture cache: pixels, the index that says whose they are, and the right to write them.

    pictures.bin  uint8 pixels, a slot a picture, all slots of one size
    index.txt     a line a picture, only ever appended: crc32 of the rest, a space, an `Entry` as JSON
    lock          locked (flock) by the one process that writes

Pixels are written before their line. A writer that is killed leaves at most a slot that no line names, which the next
one takes, and half a line, which the next one cuts off.
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

PIXELS, INDEX, LOCK = "pictures.bin", "index.txt", "lock"

_TAIL_BYTES = 2**16

log = logging.getLogger("raybox")


class Stamp(NamedTuple):
    """What tells, without reading it, that a file is as it was."""

    size: int
    mtime_ns: int


class Entry(NamedTuple):
    """Where a picture is. content: blake2b of its file's bytes. crc: crc32 of the slot."""

    path: str
    region: str
    size: int
    mtime_ns: int
    content: str
    slot: int
    crc: int


class Index:
    """What the lines say. by_file: (path, region) -> entry; by_content: (content, region) -> entry."""

    def __init__(self, entries: Iterable[Entry], num_slots: int) -> None:
        """Of several lines the last counts, for a slot and for a file; slots beyond the file's end are gone."""
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
        """The index of a folder; empty where there is none. Damaged lines are passed over, counted in the log."""
        index, data = folder / INDEX, folder / PIXELS
        if not (index.is_file() and data.is_file()):
            return cls([], 0)
        lines = index.read_bytes().split(b"\n")
        entries = [_parse(line) for line in lines[:-1]]
        damaged = entries.count(None)
        if damaged:
            log.warning("%s: %d damaged lines; their pictures are decoded anew", index, damaged)
        num_slots = data.stat().st_size // slot_bytes
        return cls([entry for entry in entries if entry is not None], num_slots)


def _parse(line: bytes) -> Entry | None:
    """An entry, or None for a damaged line."""
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    return Entry(*json.loads(body))


class Writer:
    """Writes slots and lines, a picture at a time. Only the process that holds the lock has one."""

    def __init__(self, data: int, index: int, slot_bytes: int) -> None:
        self._data, self._index, self._slot_bytes = data, index, slot_bytes
        self._mutex = threading.Lock()
        self.next_slot = 0

    def put(self, picture: NetImage, entry: Entry) -> Entry:
        """Write the pixels into the entry's slot, or the next one where it has none, then its line."""
        assert picture.nbytes == self._slot_bytes, (
            f"{picture.shape} does not fill a slot of {self._slot_bytes}"
        )
        pixels = np.ascontiguousarray(picture).tobytes()
        with self._mutex:
            slot = entry.slot if entry.slot >= 0 else self.next_slot
            _write_all(lambda rest, done: os.pwrite(self._data, rest, slot * self._slot_bytes + done), pixels)
            self.next_slot = max(self.next_slot, slot + 1)
            return self._append(entry._replace(slot=slot, crc=zlib.crc32(pixels)))

    def append(self, entry: Entry) -> Entry:
        """Write a line alone: a further file with a content that is there."""
        with self._mutex:
            return self._append(entry)

    def _append(self, entry: Entry) -> Entry:
        body = json.dumps(entry).encode()
        line = b"%08x %b\n" % (zlib.crc32(body), body)
        _write_all(lambda rest, _: os.write(self._index, rest), line)
        return entry


def _write_all(write: Callable[[memoryview, int], int], content: bytes) -> None:
    """A full disk takes a part first, and refuses with an OSError when asked again."""
    view, done = memoryview(content), 0
    while done < len(content):
        done += write(view[done:], done)


@contextmanager
def writing(folder: Path, slot_bytes: int) -> Iterator[Writer]:
    """The right to write into the folder, waited for while another process has it."""
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
            "folder, or set input.cache_dir=null to decode each picture anew"
        ) from None


def _cut_half_a_line(index: int) -> None:
    size = os.fstat(index).st_size
    start = max(0, size - _TAIL_BYTES)
    tail = os.pread(index, _TAIL_BYTES, start)
    os.ftruncate(index, start + tail.rfind(b"\n") + 1)


def stamp_of(path: str) -> Stamp | None:
    """None where there is no file."""
    try:
        status = os.stat(path)  # noqa: PTH116  a Path for each of 200,000 files takes longer
    except OSError:
        return None
    return Stamp(status.st_size, status.st_mtime_ns)


def fingerprint_of(path: str) -> tuple[Stamp, str]:
    """What the index remembers of a file."""
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise UserError(
            f"image: cannot read {path} ({error.strerror or error}); check the data set's root and the table's path "
            "column"
        ) from None
    return Stamp(status.st_size, status.st_mtime_ns), content

"""Decoded pictures in a folder, mapped into memory, shared by all runs, splits and processes.

A picture's key is the content of its file and the region of it, so a data set that was moved or copied is found again.
To hash all files at each start would take as long as to read them; so the index also remembers each file's size and
time of change, and believes them while they hold. The folder may be deleted at any time; it only saves time.
"""

import logging
import mmap
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from cxr.config import UserError
from cxr.imaging.cache_files import (
    PIXELS,
    Entry,
    Index,
    Stamp,
    Writer,
    fingerprint_of,
    stamp_of,
    writing,
)
from cxr.imaging.network_input import NetImage
from cxr.progress import track
from cxr.threads import in_threads

_DECODE_THREADS = 4
_CHUNK = 1024

Result = TypeVar("Result")

log = logging.getLogger("raybox")


class Decoder(Protocol):
    """What makes the picture of each row; raises a UserError for one that cannot be decoded."""

    image_ids: list[str]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of each picture."""

    def file(self, row: int) -> tuple[str, str]:
        """Absolute path of the image's file, and the region of it that is the image."""

    def __call__(self, row: int, /) -> NetImage: ...


def decode_each(
    work: Callable[[int], Result], rows: Sequence[int], *, progress: bool
) -> Iterator[tuple[int, Result]]:
    """(row, work(row)) in order, made in several threads, under a progress bar."""
    with ThreadPoolExecutor(_DECODE_THREADS) as pool:
        # in chunks, since results wait in memory until they are taken
        chunks = (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))
        results = (pair for chunk in chunks for pair in zip(chunk, pool.map(work, chunk), strict=True))
        yield from track(results, "decoding", total=len(rows), show=progress)


class PictureCache:
    """The pictures of a decoder, by row. What the folder lacks is decoded at the start, by one process at a time.

    A picture's crc32 is checked when a process first takes it; a damaged one is named in the log, decoded anew and
    mended. `problems`: row -> why it cannot be decoded.

    Raises:
        UserError: pictures are missing and the folder cannot be written.
    """

    def __init__(self, folder: Path, decoder: Decoder, *, progress: bool = False) -> None:
        self._folder, self._decoder = folder, decoder
        self._slot_bytes = int(np.prod(decoder.shape))
        count = len(decoder.image_ids)
        self._slots = np.full(count, -1, dtype=np.int64)
        self._crcs = np.zeros(count, dtype=np.uint32)
        self._checked = np.zeros(count, dtype=bool)
        self._mapped: NetImage | None = None
        self.problems: dict[int, str] = {}
        self._fill(progress)
        if (self._slots >= 0).any():
            self._map()  # now, so that the folder may be deleted while a training goes on

    def __getitem__(self, row: int) -> NetImage:
        assert row not in self.problems, self.problems[row]
        picture = self._pixels(row)
        if not self._checked[row]:
            if zlib.crc32(picture.data) != self._crcs[row]:
                self._mend(row)
            self._checked[row] = True
        return picture

    def __getstate__(self) -> dict[str, Any]:
        """Another process maps the file itself, and checks itself."""
        return self.__dict__ | {"_mapped": None, "_checked": np.zeros_like(self._checked)}

    def _pixels(self, row: int) -> NetImage:
        """A read-only view of the file, in which later writing shows."""
        mapped = self._map() if self._mapped is None else self._mapped
        picture: NetImage = mapped[self._slots[row]]
        return picture

    def _map(self) -> NetImage:
        try:
            with (self._folder / PIXELS).open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise UserError(
                f"input.cache_dir: {self._folder} was deleted while it was read; give the same command again, "
                "it goes on"
            ) from None
        num_slots = len(content) // self._slot_bytes
        pixels = np.frombuffer(content, dtype=np.uint8, count=num_slots * self._slot_bytes)
        self._mapped = pixels.reshape(num_slots, *self._decoder.shape)
        return self._mapped

    def _fill(self, progress: bool) -> None:
        rows = list(range(len(self._slots)))
        stamps = in_threads(lambda part: [stamp_of(self._decoder.file(row)[0]) for row in part], rows)
        missing = self._find(rows, stamps, Index.read(self._folder, self._slot_bytes))
        if not missing:
            return
        with writing(self._folder, self._slot_bytes) as writer:
            index = Index.read(
                self._folder, self._slot_bytes
            )  # others may have written while this one waited
            writer.next_slot = index.next_slot
            missing = self._find(missing, stamps, index)
            if missing:
                log.info("decoding %d of %d pictures into %s", len(missing), len(rows), self._folder)
            taken = decode_each(lambda row: self._take_in(row, index, writer), missing, progress=progress)
            for row, result in taken:
                if isinstance(result, str):
                    self.problems[row] = result
                else:
                    self._slots[row], self._crcs[row] = result.slot, result.crc

    def _find(self, rows: list[int], stamps: list[Stamp | None], index: Index) -> list[int]:
        """Note where the pictures of `rows` are; returns the rows that are nowhere."""
        missing = []
        for row in rows:
            entry = index.by_file.get(self._decoder.file(row))
            if entry is not None and (entry.size, entry.mtime_ns) == stamps[row]:
                self._slots[row], self._crcs[row] = entry.slot, entry.crc
            else:
                missing.append(row)
        return missing

    def _take_in(self, row: int, index: Index, writer: Writer) -> Entry | str:
        """Find the picture by its content, or decode and write it; the reason where it cannot be decoded."""
        path, region = self._decoder.file(row)
        try:
            stamp, content = fingerprint_of(path)
            known = index.by_content.get((content, region))
            if known is None:
                entry = writer.put(self._decoder(row), Entry(path, region, *stamp, content, slot=-1, crc=0))
                index.by_content[content, region] = entry
                return entry
        except UserError as error:
            return error.problems[0]
        return writer.append(known._replace(path=path, size=stamp.size, mtime_ns=stamp.mtime_ns))

    def _mend(self, row: int) -> None:
        image, path = self._decoder.image_ids[row], self._decoder.file(row)
        log.warning("cached picture of image %s is damaged in %s; decoding it anew", image, self._folder)
        stamp, content = fingerprint_of(path[0])
        picture = self._decoder(row)
        with writing(self._folder, self._slot_bytes) as writer:
            entry = Entry(*path, *stamp, content, slot=int(self._slots[row]), crc=0)
            self._crcs[row] = writer.put(picture, entry).crc

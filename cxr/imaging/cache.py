"""The picture cache: decoded pictures in a memory-mapped file, shared by all runs, splits and processes.

The key of a picture is the content of its file and the region, so the cache also finds files that were moved or copied.
Hashing all files at each start would take too long, so the index also records each file's path, size and modification
time; while these are unchanged, the file counts as unchanged. The folder can be deleted at any time.

An LMDB database would load batches as fast (tests/benchmarks/bench_cache.py), but it must not be placed on a network
drive, which several nodes share, and a truncated database ends the process with SIGBUS.
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
from cxr.imaging.cache_files import PIXELS, Entry, Index, Stamp, Writer, fingerprint_of, stamp_of, writing
from cxr.imaging.network_input import NetImage
from cxr.progress import track
from cxr.threads import in_threads

_DECODE_THREADS = 4
_CHUNK = 1024

Result = TypeVar("Result")

log = logging.getLogger("raybox")


class Decoder(Protocol):
    """Decodes the picture of a row.

    Raises:
        UserError: (when called) the image cannot be decoded.
    """

    image_ids: list[str]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of each picture."""

    def file(self, row: int) -> tuple[str, str]:
        """Absolute path of the file, and the region of it that is the image."""

    def with_hash(self, row: int, /) -> tuple[NetImage, str]:
        """The picture, and `content_hash` of the image; "" where nobody asks for it."""


def decode_each(work: Callable[[int], Result], rows: Sequence[int], *, progress: bool) -> Iterator[tuple[int, Result]]:
    """Yield (row, work(row)) in order; several threads work, and progress is reported."""
    with ThreadPoolExecutor(_DECODE_THREADS) as pool:
        # in chunks, since results stay in memory until they are used
        chunks = (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))
        results = (pair for chunk in chunks for pair in zip(chunk, pool.map(work, chunk), strict=True))
        yield from track(results, "decoding", total=len(rows), show=progress)


class PictureCache:
    """The pictures of a decoder, by row. Missing pictures are decoded at the start, by one process at a time.

    The crc32 of a picture is checked at its first use in a process. A damaged picture is logged, decoded again and
    repaired.

    Attributes:
        problems: row -> the reason why its image cannot be decoded.
        hashes: (N,) what the decoder's `with_hash` gave for each row; "" for rows with a problem.

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
        self.hashes = [""] * count
        self._fill(progress)
        if (self._slots >= 0).any():
            self._map()  # now, so that the folder can be deleted during a training

    def __getitem__(self, row: int) -> NetImage:
        assert row not in self.problems, self.problems[row]
        picture = self._pixels(row)
        if not self._checked[row]:
            if zlib.crc32(picture.data) != self._crcs[row]:
                self._repair(row)
            self._checked[row] = True
        return picture

    def __getstate__(self) -> dict[str, Any]:
        """Another process maps the file and checks the pictures itself."""
        return self.__dict__ | {"_mapped": None, "_checked": np.zeros_like(self._checked)}

    def _pixels(self, row: int) -> NetImage:
        """A read-only view of the file, which shows later changes."""
        mapped = self._map() if self._mapped is None else self._mapped
        picture: NetImage = mapped[self._slots[row]]
        return picture

    def _map(self) -> NetImage:
        try:
            with (self._folder / PIXELS).open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise UserError(
                f"input.cache_dir: {self._folder} was deleted while it was being read; repeat the command to resume"
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
            index = Index.read(self._folder, self._slot_bytes)  # another process may have written meanwhile
            writer.next_slot = index.next_slot
            missing = self._find(missing, stamps, index)
            if missing:
                log.info("decoding %d of %d pictures into %s", len(missing), len(rows), self._folder)
            taken = decode_each(lambda row: self._add(row, index, writer), missing, progress=progress)
            for row, result in taken:
                if isinstance(result, str):
                    self.problems[row] = result
                else:
                    self._place(row, result)

    def _place(self, row: int, entry: Entry) -> None:
        self._slots[row], self._crcs[row], self.hashes[row] = entry.slot, entry.crc, entry.looks

    def _find(self, rows: list[int], stamps: list[Stamp | None], index: Index) -> list[int]:
        """Look up the pictures of `rows` in the index; returns the rows that are missing."""
        missing = []
        for row in rows:
            entry = index.by_file.get(self._decoder.file(row))
            if entry is not None and (entry.size, entry.mtime_ns) == stamps[row]:
                self._place(row, entry)
            else:
                missing.append(row)
        return missing

    def _add(self, row: int, index: Index, writer: Writer) -> Entry | str:
        """Find the picture by its content, or decode and write it; returns the reason if it cannot be decoded."""
        path, region = self._decoder.file(row)
        try:
            stamp, content = fingerprint_of(path)
            known = index.by_content.get((content, region))
            if known is None:
                picture, looks = self._decoder.with_hash(row)
                entry = writer.put(picture, Entry(path, region, *stamp, content, slot=-1, crc=0, looks=looks))
                index.by_content[content, region] = entry
                return entry
        except UserError as error:
            return error.problems[0]
        return writer.append(known._replace(path=path, size=stamp.size, mtime_ns=stamp.mtime_ns))

    def _repair(self, row: int) -> None:
        image, path = self._decoder.image_ids[row], self._decoder.file(row)
        log.warning("cached picture of image %s is damaged in %s; decoding it again", image, self._folder)
        stamp, content = fingerprint_of(path[0])
        picture, looks = self._decoder.with_hash(row)
        with writing(self._folder, self._slot_bytes) as writer:
            entry = Entry(*path, *stamp, content, slot=int(self._slots[row]), crc=0, looks=looks)
            self._crcs[row] = writer.put(picture, entry).crc

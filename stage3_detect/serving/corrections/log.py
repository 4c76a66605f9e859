"""An append-only file of JSON records, one line each with a checksum. An acknowledged record survives a kill."""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cxr.config import UserError
from cxr.runs.whole_files import DISK_FULL, sync_folder

log = logging.getLogger("raybox")


class DiskFullError(Exception):
    """The disk, the quota or the largest allowed file size is reached. Nothing was written."""


@contextlib.contextmanager
def disk_full_named() -> Iterator[None]:
    """Raise `DiskFullError` for an OSError that means it; others pass."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise DiskFullError("the disk is full, so nothing was saved; free some space and save again") from None
        raise


class RecordLog:
    """The file while this process writes it. Not safe for several threads; the caller has a lock.

    path: created if it does not exist, readable by its owner only. A lock in its folder keeps other processes out until
    `close` or the end of the process.
    """

    def __init__(self, path: Path) -> None:
        """Lock the folder, and cut off a last line that was never acknowledged because it is not complete.

        Raises:
            UserError: another process writes into the folder, or a line is damaged.
            OSError: the folder cannot be created or written.
        """
        self.path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock(path.parent)
        try:
            data = path.read_bytes() if path.exists() else b""
            self.records = _parse(data, path)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (UserError, OSError):
            os.close(self._lock)
            raise
        self._size = data.rfind(b"\n") + 1
        if self._size < len(data):
            log.warning("corrections: the last line was not complete and is removed; it was never acknowledged")
            os.ftruncate(self._file, self._size)
        os.fsync(self._file)
        sync_folder(path.parent)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record; when this returns it is on disk.

        Raises:
            DiskFullError: the disk is full; the file is unchanged.
            OSError: the disk failed; the file is as it was, or the next call or start restores it. Or another program
                has replaced or cut the file, and what is written would not be found again.
        """
        self._check_place()
        line = _line(record)
        with disk_full_named():
            try:
                os.ftruncate(self._file, self._size)  # no effect, unless the clean-up of a failed write failed too
                _write_at(self._file, line, self._size)
                os.fsync(self._file)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._size)
                    os.fsync(self._file)
                raise
        self._size += len(line)
        self.records.append(dict(record))

    def _check_place(self) -> None:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            there = None
        if there is None or there.st_ino != os.fstat(self._file).st_ino or there.st_size < self._size:
            log.error("corrections: %s was replaced, cut or removed while in use; start the service again", self.path)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self.path))

    def close(self) -> None:
        """Let other processes write into the folder."""
        os.close(self._file)
        os.close(self._lock)


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file, also while a service writes it.

    Raises:
        UserError: no such file, or a line is damaged.
    """
    if not path.is_file():
        raise UserError(f"corrections: no file {path}; give the folder that the service was started with")
    return _parse(path.read_bytes(), path)


def _parse(data: bytes, path: Path) -> list[dict[str, Any]]:
    """Records of all complete lines."""
    records = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        record = _record(line)
        if record is None:
            raise UserError(
                f"corrections: line {number} of {path} is damaged (its checksum differs); restore the file from a "
                "backup, or remove the line"
            )
        records.append(record)
    return records


def _line(record: Mapping[str, Any]) -> bytes:
    text = _canonical(record)
    return json.dumps({"record": json.loads(text), "sha256": _digest(text)}, sort_keys=True).encode() + b"\n"


def _record(line: bytes) -> dict[str, Any] | None:
    """The record of a line; None if it is damaged."""
    try:
        content = json.loads(line)
        record, digest = content["record"], content["sha256"]
        is_whole = isinstance(record, dict) and _digest(_canonical(record)) == digest
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if is_whole else None


def _canonical(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, allow_nan=False)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write_at(file: int, data: bytes, offset: int) -> None:
    done = 0
    while done < len(data):  # a nearly full disk takes a part
        done += os.pwrite(file, data[done:], offset + done)


def _lock(folder: Path) -> int:
    file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise UserError(
            f"corrections {folder}: another service writes into this folder; stop it, or give another folder"
        ) from None
    return file

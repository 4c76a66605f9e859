"""One process at a time writes into a run folder, or does what a lock file stands for."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cxr.config import UserError

_LOCK = ".lock"
_HALF_WRITTEN = ".partial"


def lock_folder(out: Path) -> IO[str] | None:
    """Lock the folder until the returned file is closed or this process ends. None under torchrun for all processes
    but the first one, which locks for all.

    Raises:
        UserError: another process has the lock.
    """
    if os.environ.get("RANK", "0") != "0":
        return None
    file = (out / _LOCK).open("w", encoding="utf-8")
    if not _take(file):
        file.close()
        raise UserError(f"run {out}: another process writes into it; wait until it ends, or give another --out")
    return file


def remove_left_over(out: Path) -> None:
    """Remove the half-written files of a killed process. Call it with the lock.

    Runs inside the folder, such as those of an experiment, have locks of their own and are left alone.
    """
    for folder, folders, names in os.walk(out):
        folders[:] = [name for name in folders if not Path(folder, name, "started.json").exists()]
        for name in names:
            if name.endswith(_HALF_WRITTEN):
                Path(folder, name).unlink(missing_ok=True)


def is_locked(out: Path) -> bool:
    """True while another process writes into the folder, such as one that an earlier, killed call left behind."""
    if not (out / _LOCK).is_file():
        return False
    with (out / _LOCK).open("a", encoding="utf-8") as file:
        return not _take(file)


def try_lock(path: Path) -> IO[str] | None:
    """Lock a file, which is created, until the returned file is closed or this process ends. None while another
    process has the lock."""
    file = path.open("a", encoding="utf-8")
    if _take(file):
        return file
    file.close()
    return None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock of a file, which is created, and have it inside."""
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _take(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

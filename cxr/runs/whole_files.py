"""Files that appear under their name only once they are complete, and what goes next to a folder."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxr.errors import UserError

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a full disk, a reached quota and the largest allowed file size."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path next to `path`, renamed to `path` once its content is on the disk.

    Another process sees the old file or the complete new one, also after a crash. An error removes what was written,
    since it would fill the disk further.

    Raises:
        OSError: naming `path`, for a disk error. torch hides that of a stream behind a RuntimeError, so open the
            temporary path for it; it does not give the reason where it opens the path itself.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError) or cause.filename not in (None, str(partial)):
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from None
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def next_to(folder: Path, ending: str) -> Path:
    """The path next to a folder with its name and an ending; also for "." and "..", which show no name.

    Raises:
        UserError: the root folder, which has no name.
    """
    named = folder if folder.name not in ("", "..") else folder.resolve()
    if not named.name:
        raise UserError(f"{folder}: has no name, so nothing can be put next to it; give another folder")
    return named.with_name(f"{named.name}{ending}")


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, so that a crash does not lose new files."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)

"""Which image a process was reading when a decoder crashed (SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL).

No Python code runs after a crash. `faulthandler` still writes the stack of the thread that crashed; the frame that
`read_named` adds to the stack has the image's name as its file name. The stacks of the other threads are not written:
these threads still run, so reading their frames can crash the handler before it comes to the right thread. A run folder
keeps what was written, so that the next call of the same command refuses the image as damaged; so does the folder of
the DICOM queue, for the restarted service.
"""

import faulthandler
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

_STDERR = 2
_IMAGE = re.compile(r'File "<image ([0-9a-f]{16}) ')

_watched: list[IO[str]] = []
"""Files of the folders that are watched, the innermost last."""
_crashed: dict[str, Path] = {}
"""Key of each image on which an earlier call crashed, and the file that records it."""


def report_crashes() -> None:
    """Write the stack to standard error at a crash, until a folder is watched."""
    faulthandler.enable(_STDERR, all_threads=False)


def watch_folder(folder: Path) -> Callable[[], None]:
    """Keep the stack of a crash in the folder from now on, and take those of earlier calls into account.

    Returns a function that ends this; the end of the process does the same.
    """
    for path in sorted(folder.glob(".crash_*.txt")):
        stacks = path.read_text(encoding="ascii", errors="replace")
        _crashed.update((key, path) for key in _IMAGE.findall(stacks))
    path = folder / f".crash_{os.environ.get('RANK', '0')}.txt"
    file = path.open("a", encoding="ascii")
    _watched.append(file)
    faulthandler.enable(file, all_threads=False)

    def end() -> None:
        _watched.remove(file)
        faulthandler.enable(_watched[-1] if _watched else _STDERR, all_threads=False)
        file.close()
        for key in [key for key, record in _crashed.items() if record.parent == folder]:
            del _crashed[key]
        if path.is_file() and not path.stat().st_size:
            path.unlink()

    return end


def crash_file(name: str) -> Path | None:
    """The file that records a crash on the image `name` in an earlier call; None if no watched folder has one."""
    return _crashed.get(_key(name))


def read_named(name: str, work: Callable[[], T]) -> T:
    """`work()`, called from a frame that names the image. Takes less than 0.1 ms."""
    code = compile("work()", f"<image {_key(name)} {name}>", "eval")
    result: T = eval(code, {"work": work})
    return result


def _key(name: str) -> str:
    """`faulthandler` shortens a long name and replaces characters that are not ASCII, so a hash identifies it."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]

"""A decoder that really crashes on some files, and processes in which it does."""

import ctypes
import multiprocessing
import resource
from collections.abc import Callable
from typing import Any

import pytest

from cxr.imaging import files

DEADLY = b"deadly"
"""A file with these bytes crashes the decoder."""


def crash_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PNG, JPEG and DICOM files with `DEADLY` in them crash, in code that has released the interpreter lock."""
    for name in ("read_raster", "read_dicom"):
        monkeypatch.setattr(files, name, _crashing(getattr(files, name)))


def _crashing(real: Callable[..., Any]) -> Callable[..., Any]:
    def read(data: bytes, *, max_pixels: int) -> Any:
        if DEADLY in data:
            ctypes.CDLL(None).strlen(None)
        return real(data, max_pixels=max_pixels)

    return read


def exit_code_of(work: Callable[[], object]) -> int | None:
    """Call `work` in a process of its own; -11 if it ended by SIGSEGV."""

    def without_core_file() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        work()

    process = multiprocessing.get_context("fork").Process(target=without_core_file)
    process.start()
    process.join(60)
    return process.exitcode

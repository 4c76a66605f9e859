"""Find image files with the same bytes. Files of different sizes are never read."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

from cxr.config import UserError
from cxr.input_files import open_regular
from cxr.threads import in_threads

_END_BYTES = 4096


def same_content(root: Path, paths: Iterable[str]) -> dict[str, str]:
    """Path -> the earlier path with the same content, for each file that repeats one. Files that cannot be read count
    as different: whoever decodes them names the problem.

    Most files differ in their sizes or their ends; only the others are read as a whole.
    """
    groups = _split([list(dict.fromkeys(paths))], lambda path: _size(root / path))
    groups = _split(groups, lambda path: _digest(root / path, num_bytes=_END_BYTES))
    groups = _split(groups, lambda path: _digest(root / path))
    return {path: group[0] for group in groups for path in group[1:]}


def _split(groups: Sequence[list[str]], key: Callable[[str], Hashable]) -> list[list[str]]:
    """Groups of at least two paths with an equal key, in the order of the paths. A key of None equals nothing."""
    flat = [(number, path) for number, group in enumerate(groups) for path in group]
    keys = in_threads(lambda part: [key(path) for _, path in part], flat)
    found: dict[Hashable, list[str]] = defaultdict(list)
    for (number, path), value in zip(flat, keys, strict=True):
        if value is not None:
            found[number, value].append(path)
    return [group for group in found.values() if len(group) > 1]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return None


def _digest(path: Path, *, num_bytes: int | None = None) -> bytes | None:
    """Hash of a file, or of its first and last `num_bytes`."""
    try:
        with open_regular(path) as file:
            if num_bytes is None:
                return hashlib.file_digest(file, "sha256").digest()
            start = file.read(num_bytes)
            file.seek(max(0, os.fstat(file.fileno()).st_size - num_bytes))
            return hashlib.sha256(start + file.read(num_bytes)).digest()
    except (UserError, OSError):
        return None

"""A growing file of JSON objects, one in each line, that survives an interruption: work continues after the last whole
line."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.errors import UserError


def drop_incomplete_line(path: Path) -> int:
    """Remove what an interrupted call has left after the last whole line. Returns the number of whole lines."""
    num_lines = whole = 0
    if path.is_file():
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                num_lines += 1
                whole += len(line)
        os.truncate(path, whole)
    return num_lines


@dataclass(frozen=True)
class WholeLines:
    """The entries of finished files, one file after the other. UserError for a line that is not a JSON object."""

    paths: Sequence[Path]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for path in self.paths:
            with path.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    yield _entry(line, path, number)


def _entry(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise UserError(f"{path}: line {number} is damaged; remove the file, then run the same command again")
    return entry


class JsonLines:
    """The file at `path`, new or from an interrupted call. An incomplete last line is removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        drop_incomplete_line(path)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add a line. ValueError for a number that is not finite."""
        line = json.dumps(dict(entry), allow_nan=False)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The entries in their order; see `WholeLines`."""
        return iter(WholeLines([self.path] if self.path.is_file() else []))

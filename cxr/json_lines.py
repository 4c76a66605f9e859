"""A growing file of JSON objects, one in each line, that survives an interruption: work continues after the last whole
line."""

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.errors import UserError
from cxr.own_json import Shape, check_shape, parse_object

ADVICE = "remove the file, then run the same command again"


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
    """The entries of finished files, one file after the other. UserError for a line without the shape."""

    paths: Sequence[Path]
    shape: type[Shape]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for path in self.paths:
            with path.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    where = f"{path}: line {number}"
                    entry = parse_object(line, where=where, advice=ADVICE)
                    yield check_shape(entry, self.shape, where=where, advice=ADVICE)


class JsonLines:
    """The file at `path`, new or from an interrupted call. An incomplete last line is removed."""

    def __init__(self, path: Path, shape: type[Shape]) -> None:
        self.path, self.shape = path, shape
        drop_incomplete_line(path)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add a line. ValueError for a number that is not finite."""
        line = json.dumps(dict(entry), allow_nan=False)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The entries in their order; see `WholeLines`."""
        return iter(WholeLines([self.path] if self.path.is_file() else [], self.shape))


def done_images(
    lines: JsonLines | WholeLines, id_of: Callable[[Mapping[str, Any]], str], *, known: Collection[str]
) -> set[str]:
    """Ids of the images in the lines.

    Raises:
        UserError: an image is not one of `known`, or is in two lines.
    """
    done: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if (image := id_of(line)) in done or image not in known:
            reason = "is in an earlier line too" if image in done else "is none of the images of this call"
            paths = [lines.path] if isinstance(lines, JsonLines) else lines.paths
            raise UserError(f"{', '.join(map(str, paths))}: line {number}: image {image!r} {reason}; {ADVICE}")
        done.add(image)
    return done

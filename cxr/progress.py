"""Progress bars with an ETA on a terminal; silent in a log file or a pipe."""

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")


def track(
    items: Iterable[Item], description: str, *, total: int | None = None, show: bool = True
) -> Iterator[Item]:
    """Yield `items` under a bar that vanishes when done. `total` where `items` has no length."""
    if not show or not sys.stderr.isatty():
        yield from items
        return
    if total is None and isinstance(items, Sized):
        total = len(items)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TextColumn("elapsed"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, *times, console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(items, total=total, description=description)

"""Progress bars with an ETA on a terminal; silent in a log file or a pipe."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
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
    items: Iterable[Item],
    description: str,
    *,
    total: int | None = None,
    show: bool = True,
    note: str = "",
    images_in: Callable[[Item], int] | None = None,
) -> Iterator[Item]:
    """Yield `items` under a bar that vanishes when done.

    Args:
        total: number of items, where `items` has no length.
        note: shown behind the bar, for instance the figures of the last validation.
        images_in: how many images an item holds; the bar then shows images a second, from its start on.
    """
    if not show or not sys.stderr.isatty():
        yield from items
        return
    if total is None and isinstance(items, Sized):
        total = len(items)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TextColumn("elapsed"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    facts = (TextColumn("{task.fields[speed]}"), TextColumn("{task.fields[note]}", markup=False))
    with Progress(*columns, *times, *facts, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total, speed="", note=note)
        begin, images = time.perf_counter(), 0
        for item in items:
            yield item
            bar.advance(task)
            if images_in is not None:
                images += images_in(item)
                speed = images / max(time.perf_counter() - begin, 1e-9)
                bar.update(task, speed=f"{speed:.3g} images/s")

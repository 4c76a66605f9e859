"""Progress of long work: a bar with an ETA on a terminal, a log line every 30 seconds anywhere else."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")

LOG_EVERY_S = 30.0
"""Seconds between two log lines when the output is not a terminal."""

log = logging.getLogger("raybox")


def track(
    items: Iterable[Item],
    description: str,
    *,
    total: int | None = None,
    show: bool = True,
    note: str = "",
    images_in: Callable[[Item], int] | None = None,
) -> Iterator[Item]:
    """Yield `items` and report how many are done.

    On a terminal a progress bar shows the time left and vanishes at the end. Anywhere else the log gets a line every
    `LOG_EVERY_S` seconds, also while a single item takes longer than that; work that ends sooner logs nothing.

    Args:
        total: number of items, if `items` has no length.
        show: False reports nothing, for instance in all processes but the first.
        note: text at the end of the bar, for instance the figures of the last validation.
        images_in: number of images in an item; the report then contains images per second.

    Example:
        >>> list(track([1, 2], "decoding"))
        [1, 2]
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if not show:
        yield from items
    elif sys.stderr.isatty():
        yield from _with_bar(items, description, total, note=note, images_in=images_in)
    else:
        yield from _with_log(items, description, total, images_in=images_in)


def _with_bar(
    items: Iterable[Item], description: str, total: int | None, *, note: str, images_in: Callable[[Item], int] | None
) -> Iterator[Item]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TextColumn("elapsed"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    texts = (TextColumn("{task.fields[speed]}"), TextColumn("{task.fields[note]}", markup=False))
    with Progress(*columns, *times, *texts, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total, speed="", note=note)
        begin, images = time.perf_counter(), 0
        for item in items:
            yield item
            bar.advance(task)
            if images_in is not None:
                images += images_in(item)
                bar.update(task, speed=_speed(images, time.perf_counter() - begin))


def _with_log(
    items: Iterable[Item], description: str, total: int | None, *, images_in: Callable[[Item], int] | None
) -> Iterator[Item]:
    begin, done, images = time.perf_counter(), 0, 0
    ended = threading.Event()

    def report() -> None:
        while not ended.wait(LOG_EVERY_S):
            elapsed = time.perf_counter() - begin
            speed = f", {_speed(images, elapsed)}" if images else ""
            log.info("%s: %s%s", description, progress_text(done, total, elapsed), speed)

    # a thread, since a single item may take minutes
    thread = threading.Thread(target=report, daemon=True, name=f"progress of {description}")
    thread.start()
    try:
        for item in items:
            yield item
            done += 1
            images += images_in(item) if images_in is not None else 0
    finally:
        ended.set()
        thread.join()


def progress_text(done: int, total: int | None, elapsed_s: float) -> str:
    """How far the work is and how long the rest takes at the same speed.

    Example:
        >>> progress_text(30, 120, 60.0)
        '30 of 120 done, 1 min 00 s elapsed, about 3 min 00 s left'
    """
    amount = f"{done:,} done" if total is None else f"{done:,} of {total:,} done"
    text = f"{amount}, {_duration(elapsed_s)} elapsed"
    if not total or not 0 < done <= total:
        return text
    return f"{text}, about {_duration(elapsed_s / done * (total - done))} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _speed(images: int, elapsed_s: float) -> str:
    return f"{images / max(elapsed_s, 1e-9):.3g} images/s"

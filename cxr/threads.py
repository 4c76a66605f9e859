"""Apply a function to many small items in threads: file look-ups, hashes, headers; and the cores at hand."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

NUM_THREADS = 16
"""File look-ups mostly wait, above all on a network drive, so more threads than cores are useful."""
CHUNK = 2048
Item = TypeVar("Item")
Result = TypeVar("Result")


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(work: Callable[[list[Item]], list[Result]], items: Iterable[Item]) -> list[Result]:
    """Apply `work` to chunks of the items in threads; returns the results in the order of the items."""
    listed = list(items)
    size = max(1, min(CHUNK, -(-len(listed) // NUM_THREADS)))
    chunks = [listed[start : start + size] for start in range(0, len(listed), size)]
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return [result for part in pool.map(work, chunks) for result in part]

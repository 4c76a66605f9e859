"""Work on many small items in threads: file look-ups, hashes, headers."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

NUM_THREADS = 16
"""Looking up files is waiting, most of all on a network drive, so more threads than cores pay."""
CHUNK = 2048
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[list[Item]], list[Result]], items: Iterable[Item]) -> list[Result]:
    """`work` over chunks of the items in threads; the results in the items' order."""
    listed = list(items)
    size = max(1, min(CHUNK, -(-len(listed) // NUM_THREADS)))
    chunks = [listed[start : start + size] for start in range(0, len(listed), size)]
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return [result for part in pool.map(work, chunks) for result in part]

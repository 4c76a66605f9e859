"""Apply a function to items in processes of their own."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from cxr.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_processes(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    num_workers: int,
    chunk_size: int = 1,
    initializer: Callable[[], object] | None = None,
) -> Iterator[Result]:
    """Yield the result of each item, in their order. Function and items must be picklable.

    chunk_size: items that a process takes at a time. initializer: called in each process.

    Raises:
        UserError: a process died; it says after how many items.
    """
    num_done = 0
    # spawn, not fork: the parent may have threads (torch, cv2) that do not survive a fork
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=initializer) as pool:
        results = pool.map(work, items, chunksize=chunk_size)
        while True:
            try:
                result = next(results)
            except StopIteration:
                return
            except BrokenProcessPool:
                raise UserError(
                    f"a worker process died, out of memory or killed, at an item after number {num_done}; free memory "
                    "or take fewer processes, then run the same command again to resume"
                ) from None
            num_done += 1
            yield result

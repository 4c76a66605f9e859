"""A fixed number of threads that process images, and the count of what the service has accepted."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from stage3_detect.serving.http.errors import busy
from stage3_detect.serving.settings import Limits

T = TypeVar("T")


class Workers:
    """The threads of the service, off the event loop.

    A request is accepted before its body is read, or refused. `draining` refuses all new ones.
    """

    def __init__(self, num_workers: int, limits: Limits) -> None:
        self._pool = ThreadPoolExecutor(num_workers, thread_name_prefix="worker")
        self._map_pool = ThreadPoolExecutor(1, thread_name_prefix="maps")
        self._limits = limits
        self._lock = threading.Lock()
        self.num_accepted = 0
        self.num_accepted_bytes = 0
        self.num_waiting = 0
        """Pieces of work that no thread has started yet."""
        self.draining = False

    @contextmanager
    def accept(self, num_bytes: int) -> Iterator[None]:
        """Hold a place for a request with a body of `num_bytes` until it is answered. For the event loop only.

        Raises:
            Refusal: 503 while draining, 429 without a place.
        """
        limits = self._limits
        if self.draining:
            raise busy(503, "draining", "The service is shutting down; ask again.", limits.retry_after_s)
        if self.num_accepted >= limits.max_accepted or (
            self.num_accepted and self.num_accepted_bytes + num_bytes > limits.max_accepted_bytes
        ):
            raise busy(429, "queue", "Too many requests are waiting; ask again later.", limits.retry_after_s)
        self.num_accepted += 1
        self.num_accepted_bytes += num_bytes
        try:
            yield
        finally:
            self.num_accepted -= 1
            self.num_accepted_bytes -= num_bytes

    async def run(self, work: Callable[[], T], *, is_map: bool = False) -> T:
        """Run `work` in a thread and return its result.

        is_map: run it in the one thread for heat maps, so that boxes never wait for maps.

        Raises:
            Refusal: 503 after the limit on time. Work that has begun ends by itself, work that waits is dropped.
        """
        with self._lock:
            self.num_waiting += 1
        begun = False

        def counted() -> T:
            nonlocal begun
            begun = True
            self._started()
            return work()

        future = (self._map_pool if is_map else self._pool).submit(counted)
        try:
            async with asyncio.timeout(self._limits.processing_timeout_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            sentence = "The image took too long; ask again later."
            raise busy(503, "timeout", sentence, self._limits.retry_after_s) from None
        finally:
            if future.cancelled() and not begun:
                self._started()

    def close(self) -> None:
        """Wait for the threads."""
        for pool in (self._pool, self._map_pool):
            pool.shutdown(wait=True, cancel_futures=True)

    def _started(self) -> None:
        with self._lock:
            self.num_waiting -= 1

"""The most memory that a call adds while it runs.

On a CPU that is the resident size of the process, read every millisecond, so it counts what NumPy holds too, and misses
what lives for less; on a GPU it is the count of PyTorch's allocator.
"""

import ctypes
import gc
import threading
from collections.abc import Callable

import psutil
import torch

_M_MMAP_THRESHOLD = -3


def give_back_large_blocks() -> None:
    """Let glibc give blocks from 1 MiB on back when they are freed; else they would count for what runs later."""
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20)


def peak_mib(work: Callable[[], object], device: torch.device) -> float:
    """MiB that a call adds at its highest (see the module)."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return float(torch.cuda.max_memory_allocated(device) - before) / 2**20
    process, sizes, done = psutil.Process(), [], threading.Event()
    ctypes.CDLL(None).malloc_trim(0)
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.001):
            sizes.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return float(max(sizes, default=before) - before) / 2**20

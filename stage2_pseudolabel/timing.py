"""Milliseconds and peak memory of each CAM method, measured one method at a time on the same images."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil
import torch

from stage1_classify.inputs.pictures import Pictures
from stage2_pseudolabel.maps import Teacher

_SAMPLE_S = 0.002


def measure_methods(
    teacher: Teacher, pictures: Pictures, methods: Sequence[str], *, num_images: int
) -> dict[str, float]:
    """``ms_per_image/<method>`` (decoded picture to maps of all classes) and ``peak_mib/<method>``, of the whole
    ensemble where the classifier is one.

    Memory is what the batch needs above what was held before it: of the device under CUDA, otherwise of the
    process (resident set, sampled every 2 ms, so a very short peak can be missed).
    """
    count = min(num_images, len(pictures))
    inputs = teacher.inputs(pictures, range(count))
    teacher.maps([images[:1] for images in inputs], methods[:1])  # libraries warm up
    figures: dict[str, float] = {}
    for method in methods:
        with _peak_mib() as peak:
            begin = time.perf_counter()
            teacher.maps(inputs, [method])
            seconds = time.perf_counter() - begin
        figures[f"ms_per_image/{method}"] = 1000 * seconds / count
        figures[f"peak_mib/{method}"] = peak[0]
    return figures


@contextmanager
def _peak_mib() -> Iterator[list[float]]:
    """A list that holds, after the block, the greatest memory above the start, in MiB."""
    peak = [0.0]
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield peak
        torch.cuda.synchronize()
        peak[0] = (torch.cuda.max_memory_allocated() - before) / 2**20
        return
    process, stop = psutil.Process(), threading.Event()
    before = process.memory_info().rss

    def sample() -> None:
        while not stop.wait(_SAMPLE_S):
            peak[0] = max(peak[0], (process.memory_info().rss - before) / 2**20)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        stop.set()
        sampler.join()

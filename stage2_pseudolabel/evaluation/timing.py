"""Time and peak memory of each CAM method, measured one method at a time on the same images."""

import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil
import torch

from cxr.imaging.pictures import Pictures
from eval.leaderboard.names import methods_of
from stage2_pseudolabel.cam.agreement import rank_correlation
from stage2_pseudolabel.cam_maps.teacher import Teacher

_SAMPLE_S = 0.002
_REPEATS = 3
EXACT, BUDGET = "scorecam", "scorecambudget"
MAX_EXACT_IMAGES = 4
"""Images for which exact ScoreCAM maps are computed, to measure how similarly the budgeted maps rank the cells."""


def measure_methods(
    teacher: Teacher, pictures: Pictures, methods: Sequence[str], *, num_images: int
) -> dict[str, float]:
    """``ms_per_image/<method>`` (from decoded picture to maps of all classes) and ``peak_mib/<method>``.

    Both are of the whole ensemble where the classifier is one. With `scorecambudget` also
    ``rank_correlation/scorecambudget``. Time is the median of three passes after one image as warm-up, because the
    first pass of a method also pays for what the libraries prepare. Memory is the peak above what was in use before:
    of the device under CUDA, otherwise of the process (resident set, sampled every 2 ms, so a very short peak can be
    missed).
    """
    count = min(num_images, len(pictures))
    if not count:
        return {}
    inputs, first = teacher.inputs(pictures, range(count)), teacher.inputs(pictures, [0])
    figures: dict[str, float] = {}
    for method in methods:
        teacher.maps(first, methods_of(method))
        seconds = []
        with _peak_mib() as peak:
            for _ in range(_REPEATS):
                begin = time.perf_counter()
                teacher.maps(inputs, methods_of(method))
                seconds.append(time.perf_counter() - begin)
        figures[f"ms_per_image/{method}"] = 1000 * statistics.median(seconds) / count
        figures[f"peak_mib/{method}"] = peak[0]
    if BUDGET in methods:
        few = teacher.inputs(pictures, range(min(count, MAX_EXACT_IMAGES)))
        both = teacher.maps(few, [EXACT, BUDGET]).maps
        figures[f"rank_correlation/{BUDGET}"] = float(rank_correlation(both[EXACT], both[BUDGET]))
    return figures


@contextmanager
def _peak_mib() -> Iterator[list[float]]:
    """A list whose one value is, after the block, the peak memory above that at the start, in MiB."""
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

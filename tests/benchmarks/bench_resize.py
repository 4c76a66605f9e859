"""Milliseconds to shrink an image to network size by area averaging: `averaged_bands` next to OpenCV's INTER_AREA.

    python tests/benchmarks/bench_resize.py [--rounds 21]

The images are noise: 16 bits at a radiograph's usual size, 8 bits at 1024 x 1024 (the size of NIH's release), 8 bits at
CheXpert-small's size. OpenCV takes the stored type, which is faster than converting to float32 first. One thread;
figures are medians over the rounds of CPU time, taken in turns. The last line is one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from cxr.imaging.network_input import averaged_bands

IMAGES = (("uint16", (2500, 2048)), ("uint8", (1024, 1024)), ("uint8", (320, 390)))
SIZES = (640, 384, 224)

Ways = dict[str, Callable[[], object]]


def ways_of(image: np.ndarray, size: int) -> Ways:
    """Both ways to the size at which the longer side has `size` pixels."""
    scale = size / max(image.shape)
    height, width = (round(side * scale) for side in image.shape)
    return {
        "here": lambda: list(averaged_bands(image, (height, width))),
        "opencv": lambda: cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA),
    }


def median_milliseconds(ways: Ways, rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, work in ways.items():
            begin = time.process_time()
            work()
            times[name].append((time.process_time() - begin) * 1000)
    return {name: float(np.median(values[1:])) for name, values in times.items()}


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--rounds", type=int, default=21)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    generator = np.random.default_rng(0)
    table = Table("image", "to", "here, ms", "OpenCV, ms", "ratio", title="area averaging, one thread")
    figures = {}
    for kind, image_hw in IMAGES:
        image = generator.integers(0, np.iinfo(kind).max, image_hw, dtype=kind, endpoint=True)
        name = f"{kind} {image_hw[0]} x {image_hw[1]}"
        for size in (size for size in SIZES if size < max(image_hw)):
            found = median_milliseconds(ways_of(image, size), given.rounds)
            ratio = found["opencv"] / found["here"]
            table.add_row(name, str(size), f"{found['here']:.2f}", f"{found['opencv']:.2f}", f"{ratio:.1f}")
            figures |= {f"{way}/{name}/{size}": value for way, value in found.items()}
    Console(width=110).print(table)
    Console(width=10_000).print(json.dumps(figures), markup=False, highlight=False)


if __name__ == "__main__":
    main()

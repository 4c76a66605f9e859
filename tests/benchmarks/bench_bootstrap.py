"""Seconds of a bootstrap of mean AP40, beside pycocotools asked to accumulate every resample.

    python tests/benchmarks/bench_bootstrap.py [--methods 13] [--classes 8] [--images 300] [--resamples 1000]

`ours` re-weights the stored matches. `library` gives pycocotools the same matching (no matching again, the kindest
case) and lets it accumulate resample by resample; it is timed over a few resamples and multiplied. Times are CPU
time. Prints a table and, as the last line, one JSON object.
"""

import argparse
import contextlib
import io
import json
import time

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from cxr.coco import CocoBoxes, boxes_table
from eval import detection
from eval.bootstrap import bootstrap_mean_ap, resample_counts

LIBRARY_RESAMPLES = 5


def case(num_images: int, num_classes: int, *, seed: int = 0) -> tuple[CocoBoxes, CocoBoxes]:
    """Truth and predictions: in a quarter of the images a class has a box; every image gets a guess."""
    rng = np.random.default_rng(seed)
    true, found = [], []
    for i in range(num_images):
        for k in range(num_classes):
            x, y, w, h = rng.uniform((0, 0, 30, 30), (300, 200, 120, 90))
            if rng.uniform() < 0.25:
                true.append((f"image{i}", f"class{k}", x, y, x + w, y + h, np.nan))
            dx, dy = rng.normal(0, 20, size=2)
            box = (x + dx, y + dy, x + w + dx, y + h + dy)
            found.append((f"image{i}", f"class{k}", *box, rng.uniform()))
    rows = [(f"image{i}", "", "full", 500, 400) for i in range(num_images)]
    images = pd.DataFrame(rows, columns=["image_id", "path", "region", "width", "height"])
    findings = tuple(f"class{k}" for k in range(num_classes))
    return CocoBoxes(images, boxes_table(true), findings), CocoBoxes(images, boxes_table(found), findings)


def seconds_of_library(truth: CocoBoxes, predictions: CocoBoxes, counts: np.ndarray) -> float:
    """CPU seconds that pycocotools takes to accumulate these resamples."""
    coco_eval = detection._run_coco(truth, predictions, (0.4,))
    num_images, matched = len(truth.images), coco_eval.evalImgs
    begin = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        for drawn in counts:
            chosen = np.repeat(np.arange(num_images), drawn)
            classes = range(0, len(matched), num_images)
            coco_eval.evalImgs = [matched[start + i] for start in classes for i in chosen]
            coco_eval.accumulate()
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("methods", 13), ("classes", 8), ("images", 300), ("resamples", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    truth, predictions = case(given.images, given.classes)
    begin = time.process_time()
    result = detection.evaluate(truth, predictions, ious=(0.4,))
    matching = time.process_time() - begin
    begin = time.process_time()
    for seed in range(given.methods):
        bootstrap_mean_ap(result.matches, result.image_ids, num_resamples=given.resamples, seed=seed)
    ours = time.process_time() - begin
    counts = resample_counts(result.image_ids, num_resamples=LIBRARY_RESAMPLES)
    once = seconds_of_library(truth, predictions, counts) / LIBRARY_RESAMPLES
    library = once * given.resamples * given.methods
    table = Table("what", "seconds", title=f"{given.methods} methods, {given.resamples} resamples each")
    table.add_row("matching, one method", f"{matching:.2f}")
    table.add_row("bootstrap, ours", f"{ours:.2f}")
    table.add_row("bootstrap, library", f"{library:.1f} ({library / ours:.0f}x)")
    Console(width=110).print(table)
    figures = {"matching_s": matching, "ours_s": ours, "library_s": library, "ratio": library / ours}
    Console(width=10_000).print(json.dumps(vars(given) | figures), markup=False, highlight=False)


if __name__ == "__main__":
    main()

"""Seconds of a bootstrap of mean AP40, compared with pycocotools asked to accumulate every resample.

    python tests/benchmarks/bench_bootstrap.py [--methods 13] [--classes 14] [--images 3000] [--resamples 1000]

Every image has one to three detections of every class. `ours` re-weights the stored matches. `library` gives
pycocotools the same matching (no matching again, the kindest case) and lets it accumulate resample by resample; it is
timed over a few resamples and multiplied. Times are CPU time of one thread; set OMP_NUM_THREADS=1. Below, what each
other measure costs for one method, its matching of boxes included where it is not AP's. Prints a table and, as the
last line, one JSON object.
"""

import argparse
import contextlib
import io
import json
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from cxr.coco import CocoBoxes, boxes_table
from eval.detection.average_precision import ap5095_measure, ap_measure
from eval.detection.froc import froc_measure
from eval.detection.indexed import IndexedDetections
from eval.detection.localization import accuracy_measure, corloc_measure, max_box_accuracy_measure, pointing_measure
from eval.detection.matching import MAIN_IOU
from eval.detection.rodeo import rodeo_measure
from eval.detection.voc import voc_measure
from eval.stats.bootstrap import resample_counts
from eval.stats.measures import Measure, bootstrap
from tests.eval.detection.coco_reference import run_pycocotools

LIBRARY_RESAMPLES = 2
NUM_BOX_THRESHOLDS = 20
"""Of MaxBoxAccV2, as the leaderboard has."""


def case(num_images: int, num_classes: int, *, seed: int = 0) -> tuple[CocoBoxes, CocoBoxes]:
    """Truth and predictions: in a quarter of the images a class has a box; every image gets one to three guesses."""
    rng = np.random.default_rng(seed)
    true, found = [], []
    for i in range(num_images):
        for k in range(num_classes):
            x, y, w, h = rng.uniform((0, 0, 30, 30), (300, 200, 120, 90))
            if rng.uniform() < 0.25:
                true.append((f"image{i}", f"class{k}", x, y, x + w, y + h, np.nan))
            for _ in range(rng.integers(1, 4)):
                dx, dy = rng.normal(0, 20, size=2)
                box = (x + dx, y + dy, x + w + dx, y + h + dy)
                found.append((f"image{i}", f"class{k}", *box, rng.uniform()))
    rows = [(f"image{i}", "", "full", 500, 400) for i in range(num_images)]
    images = pd.DataFrame(rows, columns=["image_id", "path", "region", "width", "height"])
    findings = tuple(f"class{k}" for k in range(num_classes))
    return CocoBoxes(images, boxes_table(true), findings), CocoBoxes(images, boxes_table(found), findings)


def seconds_of_library(truth: CocoBoxes, predictions: CocoBoxes, counts: np.ndarray) -> float:
    """CPU seconds that pycocotools takes to accumulate these resamples."""
    coco_eval = run_pycocotools(truth, predictions, (0.4,))
    num_images, matched = len(truth.images), coco_eval.evalImgs
    begin = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        for drawn in counts:
            chosen = np.repeat(np.arange(num_images), drawn)
            classes = range(0, len(matched), num_images)
            coco_eval.evalImgs = [matched[start + i] for start in classes for i in chosen]
            coco_eval.accumulate()
    return time.process_time() - begin


def other_measures(truth: CocoBoxes, found: CocoBoxes) -> dict[str, Callable[[], Measure]]:
    """How each measure other than AP40 is computed."""
    boxes, matches = IndexedDetections(truth, found), IndexedDetections(truth, found).matches
    centres = found.boxes.drop_duplicates(["image_id", "finding"])
    centres = centres.assign(x=(centres["x1"] + centres["x2"]) / 2, y=(centres["y1"] + centres["y2"]) / 2)
    return {
        "ap5095": lambda: ap5095_measure(matches),
        "froc": lambda: froc_measure(matches),
        "voc40": lambda: voc_measure(boxes),
        "corloc": lambda: corloc_measure(boxes),
        "iobb_accuracy30": lambda: accuracy_measure(boxes, overlap="iobb", threshold=0.3),
        "pointing": lambda: pointing_measure(boxes.true, centres),
        "maxboxaccv2": lambda: max_box_accuracy_measure(boxes.true, [found] * NUM_BOX_THRESHOLDS),
        "rodeo": lambda: rodeo_measure(boxes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("methods", 13), ("classes", 14), ("images", 3000), ("resamples", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    truth, predictions = case(given.images, given.classes)
    begin = time.process_time()
    matches = IndexedDetections(truth, predictions).matches
    matching = time.process_time() - begin
    begin = time.process_time()
    counts = resample_counts(list(truth.images["image_id"]), num_resamples=given.resamples)
    for _ in range(given.methods):
        assert bootstrap(ap_measure(matches, MAIN_IOU), counts).mean_interval.low > 0
    ours = time.process_time() - begin
    others = {}
    for name, make in other_measures(truth, predictions).items():
        begin = time.process_time()
        make().resampled(counts)
        others[name] = time.process_time() - begin
    once = seconds_of_library(truth, predictions, counts[:LIBRARY_RESAMPLES]) / LIBRARY_RESAMPLES
    library = once * given.resamples * given.methods
    table = Table("what", "seconds", title=f"{given.methods} methods, {given.resamples} resamples each")
    table.add_row("matching, one method", f"{matching:.2f}")
    table.add_row("bootstrap, ours", f"{ours:.2f}")
    table.add_row("bootstrap, library", f"{library:.1f} ({library / ours:.0f}x)")
    for name, seconds in others.items():
        table.add_row(f"{name}, one method", f"{seconds:.2f}")
    Console(width=110).print(table)
    figures = {"matching_s": matching, "ours_s": ours, "library_s": library, "ratio": library / ours}
    Console(width=10_000).print(json.dumps(vars(given) | figures | others), markup=False, highlight=False)


if __name__ == "__main__":
    main()

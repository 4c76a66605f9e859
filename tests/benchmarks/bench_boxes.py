"""Box rules tried a second: the search over shared maps, against each rule run and scored by pycocotools by itself.

    python tests/benchmarks/bench_boxes.py [--images 200] [--findings 7] [--side 20] [--methods 13]

Maps are noise with a bump at each true box, taller than wide. `search` tries every rule of the default settings on one
method's maps. `one by one` runs rules and hands their boxes to pycocotools, a rule a finding at a time (one evaluation
judges a rule of each finding, the kindest case); it is timed over a few and multiplied. Both give the same AP, which
is checked. `sample size` is the curve over numbers of tune boxes. Times are CPU time. Prints a table and, as the last
line, one JSON object.
"""

import argparse
import json
import time

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from cxr.coco import IMAGE_FIELDS, CocoBoxes, boxes_table
from stage2_pseudolabel.boxes.detect import Scored, detect
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.sample_size import sample_size_curve
from stage2_pseudolabel.boxes.search import tune_rules
from stage2_pseudolabel.settings.boxes import BoxSettings
from tests.eval.detection.coco_reference import reference_ap

HEIGHT, WIDTH = 480, 400
PREVALENCE = 0.25


def case(num_images: int, num_findings: int, side: int, *, seed: int) -> tuple[Scored, CocoBoxes]:
    """A quarter of the images has one or two boxes of a finding; maps (N, K, side + 2, side)."""
    rng = np.random.default_rng(seed)
    findings = tuple(f"finding {k}" for k in range(num_findings))
    y, x = np.mgrid[: side + 2, :side]
    maps = rng.gamma(1.0, 0.1, size=(num_images, num_findings, side + 2, side)).astype(np.float32)
    probabilities = rng.uniform(0, 0.6, size=(num_images, num_findings))
    rows = []
    for i, k in np.argwhere(rng.uniform(size=(num_images, num_findings)) < PREVALENCE).tolist():
        probabilities[i, k] += 0.3
        for _ in range(rng.integers(1, 3)):
            left, top, width, height = rng.uniform((0, 0, 50, 50), (300, 380, 100, 100))
            rows.append((f"image{i}", findings[k], left, top, left + width, top + height, np.nan))
            far_x = ((x + 0.5) / side * WIDTH - left - width / 2) / width
            far_y = ((y + 0.5) / (side + 2) * HEIGHT - top - height / 2) / height
            maps[i, k] += np.exp(-2 * (far_x**2 + far_y**2))
    images = [(f"image{i}", "", "full", WIDTH, HEIGHT) for i in range(num_images)]
    truth = CocoBoxes(pd.DataFrame(images, columns=IMAGE_FIELDS), boxes_table(rows), findings)
    return Scored(maps, probabilities), truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 200), ("findings", 7), ("side", 20), ("methods", 13)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    frame, settings = Frame((11 * given.side, 10 * given.side), keep_aspect=False), BoxSettings()
    scored, truth = case(given.images, given.findings, given.side, seed=0)
    begin = time.process_time()
    tuned = tune_rules(scored, truth, settings, frame=frame)
    search = time.process_time() - begin

    begin, slow = time.process_time(), 0
    for rules, aps in tuned.by_kind.values():
        found = detect(scored, truth, rules, frame=frame, leave_own_out=True)
        expected = reference_ap(truth, truth.with_boxes(found), (0.4,))[0]
        assert np.allclose(expected, [aps[finding] for finding in truth.findings], atol=1e-9), "another AP"
        slow += given.findings
    one_by_one = (time.process_time() - begin) / slow * tuned.num_tried

    begin = time.process_time()
    sample_size_curve(
        (scored, truth), case(given.images, given.findings, given.side, seed=1), settings, frame=frame, seed=0
    )
    curve = time.process_time() - begin

    table = Table("what", "seconds", "rules a second", title=f"{tuned.num_tried} rules, {given.images} images")
    table.add_row("search, one method", f"{search:.2f}", f"{tuned.num_tried / search:.0f}")
    table.add_row("one by one, pycocotools", f"{one_by_one:.1f}", f"{tuned.num_tried / one_by_one:.0f}")
    table.add_row(f"search, {given.methods} methods", f"{search * given.methods:.1f}", "")
    table.add_row("sample size, one method", f"{curve:.1f}", "")
    Console(width=110).print(table)
    figures = {
        "rules": tuned.num_tried,
        "search_s": search,
        "search_rules_per_s": tuned.num_tried / search,
        "one_by_one_s": one_by_one,
        "ratio": one_by_one / search,
        "seconds_per_method_finding": search / given.findings,
        "sample_size_s": curve,
    }
    Console(width=10_000).print(json.dumps(vars(given) | figures), markup=False, highlight=False)


if __name__ == "__main__":
    main()

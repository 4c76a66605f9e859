"""What limits of the classifier's probability do to pseudo-boxes: positives that keep a box, and how many are right.

    python tests/benchmarks/bench_base_rate.py STAGE1_RUN STAGE2_RUN

The stage 2 run is made with pseudo_labels.min_likelihood_ratio=0, on training images with true boxes, which the phantom
has. Compared are a fixed probability, the classifier's operating point, and the likelihood ratio. A box is right if the
best one of the image and finding has IoU .4 with a true box; a label is wrong if the image has no true box of the
finding. Prints a table for each finding and for all, and, as the last line, one JSON object.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from cxr.arrays import Bools, Floats
from cxr.boxes import CORNERS, iou_matrix
from cxr.coco import CocoBoxes, read_coco
from cxr.runs.run_folder import FinishedRun, open_run
from cxr.splits import load_splits
from eval.detection.matching import MAIN_IOU
from stage1_classify.model.loading import load_trained
from stage2_pseudolabel.pseudolabels.base_rates import base_rates, too_unlikely

PROBABILITIES = (0.1, 0.3)
RATIOS = (0.25, 0.5, 1.0, 2.0, 3.0)
ALL = "all findings"


def positives(stage1: FinishedRun, stage2: FinishedRun) -> pd.DataFrame:
    """One row per training image and finding that its label affirms: finding, probability, rate (share of positive
    labels), point (operating point), right (the best box is), wrong_label (no true box)."""
    trained = load_trained(stage1.dir)
    settings = trained.settings
    train = settings.data.read()
    train = train.select(load_splits(stage1.output("splits"))["train"])
    boxes, truth = (read_coco(stage2.output(name)) for name in ("pseudo_labels", "gt_train"))
    findings = list(boxes.findings)
    columns = [settings.findings.index(name) for name in findings]
    probabilities = trained.predict(train, progress=True)[:, columns]
    rates = base_rates(train.labels[findings], not_mentioned=settings.labels.not_mentioned)
    ids = train.images["image_id"].tolist()
    rows = []
    for row, k in np.argwhere((train.labels[findings] == 1).to_numpy()).tolist():
        own, true = (_corners(part, ids[row], findings[k]) for part in (boxes, truth))
        right = bool(len(own) and len(true) and iou_matrix(own[:1], true).max() >= MAIN_IOU)
        point = stage1.manifest["thresholds"][findings[k]]
        rows.append((findings[k], probabilities[row, k], rates[k], point, right, not len(true)))
    return pd.DataFrame(rows, columns=["finding", "probability", "rate", "point", "right", "wrong_label"])


def _corners(coco: CocoBoxes, image_id: str, finding: str) -> Floats:
    """Boxes of an image and finding, the best one first."""
    own = coco.boxes[(coco.boxes["image_id"] == image_id) & (coco.boxes["finding"] == finding) & ~coco.is_ignored]
    return own.sort_values("score", ascending=False)[CORNERS].to_numpy(dtype=np.float64)


def kept(table: pd.DataFrame) -> dict[str, Bools]:
    """Rule -> (N,) which positives keep their box."""
    given, rates = table["probability"].to_numpy(), table["rate"].to_numpy()
    rules = {"all": np.ones(len(table), dtype=bool)}
    rules |= {f"probability {limit:g}": given >= limit for limit in PROBABILITIES}
    rules["operating point"] = given >= table["point"].to_numpy(dtype=np.float64)
    for limit in RATIOS:
        unlikely = np.diag(too_unlikely(np.tile(given[:, None], len(given)), rates, limit))
        rules[f"ratio {limit:g}"] = ~unlikely
    return rules


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage1", type=Path)
    parser.add_argument("stage2", type=Path)
    given = parser.parse_args()
    table = positives(open_run(given.stage1, stage="stage1"), open_run(given.stage2, stage="stage2"))
    rules = kept(table)
    figures: dict[str, dict[str, list[int]]] = {}
    for finding in [*dict.fromkeys(table["finding"]), ALL]:
        own = np.ones(len(table), dtype=bool) if finding == ALL else (table["finding"] == finding).to_numpy()
        share = "" if finding == ALL else f", {table['rate'][own].iloc[0]:.1%} of the labels"
        shown = Table("rule", "kept", "right", "precision", "wrong labels", title=f"{finding}{share}")
        for name, keeps in rules.items():
            part = table[own & keeps]
            counts = [len(part), int(part["right"].sum()), int(part["wrong_label"].sum())]
            precision = f"{part['right'].mean():.2f}" if len(part) else "–"
            shown.add_row(name, str(counts[0]), str(counts[1]), precision, str(counts[2]))
            figures.setdefault(finding, {})[name] = counts
        Console(width=100).print(shown)
    Console(width=10_000).print(json.dumps(figures), markup=False, highlight=False)


if __name__ == "__main__":
    main()

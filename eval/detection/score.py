"""Score any COCO predictions against any COCO ground truth: `eval/run.py score`."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from cxr.coco import CocoBoxes
from cxr.config import UserError
from cxr.labels import class_slugs
from cxr.runs.run_folder import atomic_write_text, refuse_run_folder
from eval.detection.coco_files import read_predictions, read_truth
from eval.detection.indexed import IndexedDetections
from eval.detection.measures import box_measures
from eval.detection.rodeo import MIN_SCORE
from eval.report.blocks import Block, Figure, Table, write_report
from eval.report.charts import Bar, plot_bars
from eval.report.format import Cell, estimate_text, gap_text
from eval.report.text_tables import print_tables
from eval.stats.bootstrap import Counts, resample_counts
from eval.stats.measures import Bootstrapped, bootstrap, bootstrap_figures, difference, finite_or_none, interval_figures

NUM_RESAMPLES = 1000
MAIN = "ap40"
MEANS = {"ap10": "AP10", "ap30": "AP30", "ap50": "AP50", "ap70": "AP70", "ap5095": "AP50:95", "voc40": "VOC40"}
NAMED = {"label_ap40": "AP40, label known", "label_ap50": "AP50, label known", "chex_map": "ChEX mAP"}
"""Further kinds of average precision, with their headings in the table."""
OTHER_MEASURES = {"froc": "FROC", "corloc": "CorLoc", "mean_iou": "mIoU", "mask_iou": "mask IoU", "rodeo": "RoDeO"}
ACCURACIES = {f"iou_accuracy{t}": f"IoU > .{t // 10}" for t in range(10, 80, 10)}
WITH_INTERVAL = (MAIN, *NAMED, *OTHER_MEASURES, *ACCURACIES)
_FURTHER = (
    (
        "Further kinds of average precision",
        NAMED,
        "Label known: only images that have the class. ChEX mAP: mean over IoU .4 to .75 after non-maximum suppression "
        "at IoU .25.",
    ),
    (
        "Other measures",
        OTHER_MEASURES,
        "FROC: mean share of true boxes found at 1/8 to 8 false positives per image (IoU .4). CorLoc: share of the "
        "images with a class whose best-scored box has IoU .5 or more. mIoU: mean IoU of that box, 0 where there is "
        "none. Mask IoU: mean IoU of that box with the masks of the truth, if it has some. "
        f"RoDeO: boxes with a score of at least {MIN_SCORE}.",
    ),
    (
        "T(IoU)",
        ACCURACIES,
        "Share of the images with a class whose best-scored box overlaps a true box by more than T.",
    ),
)
"""Title, columns and note of tables with one interval per cell."""

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Scored:
    """One set of predictions. results: each measure by its name; intervals share one set of resamples."""

    name: str
    boxes: IndexedDetections
    results: Mapping[str, Bootstrapped]

    @property
    def main(self) -> Bootstrapped:
        return self.results[MAIN]


def add_score(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eval/run.py score`."""
    parser.add_argument("--gt", required=True, type=Path, help="ground truth, a full COCO file")
    parser.add_argument(
        "--pred",
        required=True,
        action="extend",
        nargs="+",
        metavar="NAME=FILE",
        help="predictions: a COCO file with scores, or a list of {image_id, category_id, bbox, score}",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/score"), help="folder of the report (default: runs/score)"
    )


def score_files(truth_path: Path, predictions: Sequence[str], *, out: Path, seed: int = 0) -> Path:
    """Score files, print tables, write `metrics.json` and `report.html` into `out`; returns the report's path.

    predictions: "NAME=FILE" each. Intervals resample images, the same ones for all predictions.
    Raises UserError for wrong names or files.
    """
    named = parse_names(predictions)
    refuse_run_folder(out)
    truth = read_truth(truth_path)
    num_images = len(truth.coco.images)
    counts = resample_counts([str(i) for i in range(num_images)], num_resamples=NUM_RESAMPLES, seed=seed)
    scored = []
    for name, path in named.items():
        scored.append(score(name, truth.coco, read_predictions(path, truth), counts=counts))
    tables = score_tables(scored)
    print_tables(tables)
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_text(out / "metrics.json", json.dumps(score_figures(scored), indent=1) + "\n")
    synthetic = bool(truth.coco.info.get("synthetic", False))
    return _write_page(out, scored, tables=tables, synthetic=synthetic)


def score(name: str, truth: CocoBoxes, found: CocoBoxes, *, counts: Counts) -> Scored:
    """All figures of one set of predictions. counts: (R, I) resamples of the truth's images.

    Raises:
        UserError: predictions of unknown images or classes, or without a finite score.
    """
    boxes = IndexedDetections(truth, found)
    measures = [m for m in box_measures(boxes, min_scores={}) if m.name in (*WITH_INTERVAL, *MEANS)]
    results = {m.name: bootstrap(m, counts if m.name in WITH_INTERVAL else counts[:0]) for m in measures}
    return Scored(name, boxes, results)


def parse_names(predictions: Sequence[str]) -> dict[str, Path]:
    """Parse "NAME=FILE" texts; UserError for any other text, a slash in a name, or a repeated name."""
    named: dict[str, Path] = {}
    problems = []
    for text in predictions:
        name, equals, file = text.partition("=")
        if not (name and equals and file) or "/" in name:
            problems.append(f"--pred {text}: expected NAME=FILE, for instance yolo=detections.json")
        elif name in named:
            problems.append(f"--pred {text}: the name {name!r} is given twice; give each file its own name")
        else:
            named[name] = Path(file)
    if problems:
        raise UserError(problems)
    return named


def score_figures(scored: Sequence[Scored]) -> Figures:
    """Flat figures: `<name>/ap40`, `<name>/ap40/<class>`, `<name>/ap40/low`, `difference40/<a>/<b>`, ..."""
    figures: dict[str, float] = {}
    for item in scored:
        slugs = class_slugs(item.boxes.true.findings)
        for metric, result in item.results.items():
            key = f"{item.name}/{metric}"
            figures |= bootstrap_figures(key, result, slugs=slugs, with_ends=metric in WITH_INTERVAL)
    for first, second in combinations(scored, 2):
        gap = difference(first.main, second.main)
        figures |= interval_figures(f"difference40/{first.name}/{second.name}", gap.value, gap)
    return finite_or_none(figures)


def score_tables(scored: Sequence[Scored]) -> list[Table]:
    """Mean AP, other measures, AP by class and, for several predictions, their differences."""
    further = [_estimates_table(scored, title, columns, note) for title, columns, note in _FURTHER]
    tables = [_means_table(scored), *further, _classes_table(scored)]
    return tables if len(scored) < 2 else [*tables, _differences_table(scored)]


def _means_table(scored: Sequence[Scored]) -> Table:
    rows: list[list[Cell]] = []
    for item in scored:
        rows.append([item.name, estimate_text(item.main.estimate()), *(item.results[name].mean for name in MEANS)])
    without = [m.finding for m in scored[0].boxes.matches if not m.num_true.any()]
    note = (
        f"Mean over classes with true boxes, {scored[0].boxes.true.shape[0]} images; "
        f"excluded: {', '.join(without) or 'none'}. The bootstrap interval resamples images."
    )
    return Table("Average precision", ["predictions", "AP40 [95 %]", *MEANS.values()], rows, note)


def _estimates_table(scored: Sequence[Scored], title: str, columns: Mapping[str, str], note: str) -> Table:
    known = {name: heading for name, heading in columns.items() if name in scored[0].results}
    rows: list[list[Cell]] = [
        [item.name, *(estimate_text(item.results[name].estimate()) for name in known)] for item in scored
    ]
    return Table(title, ["predictions", *known.values()], rows, note)


def _classes_table(scored: Sequence[Scored]) -> Table:
    rows: list[list[Cell]] = [
        [match.finding, int(match.num_true.sum()), *(float(item.main.values[k]) for item in scored)]
        for k, match in enumerate(scored[0].boxes.matches)
    ]
    return Table("AP40 by class", ["class", "true boxes", *(item.name for item in scored)], rows)


def _differences_table(scored: Sequence[Scored]) -> Table:
    """The best set of predictions against each of the others."""
    order = sorted(scored, key=lambda item: -np.nan_to_num(item.main.mean))
    rows: list[list[Cell]] = []
    for other in order[1:]:
        gap = difference(order[0].main, other.main)
        verdict = "significant" if gap.is_clear else "not significant"
        rows.append([other.name, gap_text(gap), verdict])
    columns = [f"{order[0].name} minus", "AP40 difference [95 %]", "result"]
    return Table("Is the best one better?", columns, rows, "Differences are paired: the same resamples for both.")


def _write_page(out: Path, scored: Sequence[Scored], *, tables: Sequence[Table], synthetic: bool) -> Path:
    bars = [Bar.of(item.name, item.main.estimate()) for item in scored]
    plot_bars(out / "pictures" / "ap40.png", bars, label="AP at IoU 0.4, mean over classes")
    chart = Figure("Mean AP40 with 95 % intervals", "pictures/ap40.png")
    blocks: list[Block] = [tables[0], chart, *tables[1:]]
    lead = f"{len(scored)} sets of predictions on {scored[0].boxes.true.shape[0]} images."
    return write_report(out, title="Boxes scored", lead=lead, blocks=blocks, synthetic=synthetic)

"""Score any COCO predictions against any COCO ground truth: `eval/run.py score`."""

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
from eval.detection.average_precision import ap5095_measure, ap_measure
from eval.detection.coco_files import read_predictions, read_truth
from eval.detection.froc import froc_measure
from eval.detection.indexed import Indexed
from eval.detection.localization import accuracy_measure, corloc_measure
from eval.detection.measures import AP_IOUS
from eval.detection.rodeo import MIN_SCORE, rodeo_measure
from eval.detection.voc import voc_measure
from eval.report.blocks import Block, Figure, Table, write_report
from eval.report.charts import Bar, plot_bars
from eval.report.format import Cell, with_interval
from eval.report.text_tables import print_tables
from eval.stats.bootstrap import Counts, resample_counts
from eval.stats.measures import Bootstrapped, bootstrap, difference, interval_figures

NUM_RESAMPLES = 1000
MAIN = "ap40"
OTHER_MEASURES = {
    "froc": "FROC",
    "corloc": "CorLoc",
    "iou_accuracy30": "IoU > .3",
    "iou_accuracy50": "IoU > .5",
    "rodeo": "RoDeO",
}
"""Measures other than AP, with their headings in the table."""

WITH_INTERVAL = (MAIN, *OTHER_MEASURES)

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Scored:
    """One set of predictions. results: each measure by its name; intervals share one set of resamples."""

    name: str
    boxes: Indexed
    results: Mapping[str, Bootstrapped]

    @property
    def main(self) -> Bootstrapped:
        """AP at the main IoU."""
        return self.results[MAIN]


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
    boxes = Indexed(truth, found)
    measures = [
        *(ap_measure(boxes.matches, iou) for iou in AP_IOUS),
        ap5095_measure(boxes.matches),
        voc_measure(boxes),
        froc_measure(boxes.matches),
        corloc_measure(boxes),
        accuracy_measure(boxes, overlap="iou", threshold=0.3),
        accuracy_measure(boxes, overlap="iou", threshold=0.5),
        rodeo_measure(boxes),
    ]
    return Scored(
        name, boxes, {m.name: bootstrap(m, counts if m.name in WITH_INTERVAL else counts[:0]) for m in measures}
    )


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
            values = {f"{item.name}/{metric}": (result.mean, result.mean_interval)}
            for finding, value in zip(result.findings, result.values.tolist(), strict=True):
                values[f"{item.name}/{metric}/{slugs[finding]}"] = (value, result.interval(finding))
            for key, (value, interval) in values.items():
                figures |= interval_figures(key, value, interval) if metric in WITH_INTERVAL else {key: value}
    for first, second in combinations(scored, 2):
        gap = difference(first.main, second.main)
        figures |= interval_figures(f"difference40/{first.name}/{second.name}", gap.value, gap)
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}


def score_tables(scored: Sequence[Scored]) -> list[Table]:
    """Mean AP, other measures, AP by class and, for several predictions, their differences."""
    tables = [_means_table(scored), _others_table(scored), _classes_table(scored)]
    return tables if len(scored) < 2 else [*tables, _differences_table(scored)]


def _means_table(scored: Sequence[Scored]) -> Table:
    rows: list[list[Cell]] = []
    for item in scored:
        mean = {metric: result.mean for metric, result in item.results.items()}
        interval = item.main.mean_interval
        others = (mean[metric] for metric in ("ap10", "ap30", "ap50", "ap70", "ap5095", "voc40"))
        rows.append([item.name, mean[MAIN], with_interval(None, interval.low, interval.high), *others])
    without = [m.finding for m in scored[0].boxes.matches if not m.num_true.any()]
    note = (
        f"Mean over classes with true boxes, {_num_images(scored)} images; excluded: {', '.join(without) or 'none'}. "
        "The bootstrap interval resamples images."
    )
    names = ["AP40", "95 % interval", "AP10", "AP30", "AP50", "AP70", "AP50:95", "VOC40"]
    return Table("Average precision", ["predictions", *names], rows, note)


def _others_table(scored: Sequence[Scored]) -> Table:
    rows: list[list[Cell]] = []
    for item in scored:
        shown = [item.results[name] for name in OTHER_MEASURES]
        intervals = [one.mean_interval for one in shown]
        cells = zip(shown, intervals, strict=True)
        rows.append([item.name, *(with_interval(one.mean, i.low, i.high) for one, i in cells)])
    note = (
        "FROC: mean share of true boxes found at 1/8 to 8 false positives per image (IoU .4). CorLoc and IoU > T: "
        "share of the images with a class whose best-scored box overlaps enough. "
        f"RoDeO: boxes with a score of at least {MIN_SCORE}."
    )
    return Table("Other measures", ["predictions", *OTHER_MEASURES.values()], rows, note)


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
        rows.append([other.name, gap.value, with_interval(None, gap.low, gap.high), verdict])
    columns = [f"{order[0].name} above", "AP40 difference", "95 % interval", "verdict"]
    return Table("Is the best one better?", columns, rows, "Paired: the same resamples for both.")


def _write_page(out: Path, scored: Sequence[Scored], *, tables: Sequence[Table], synthetic: bool) -> Path:
    bars = []
    for item in scored:
        interval = item.main.mean_interval
        values = (item.main.mean, interval.low, interval.high)
        mean, low, high = (value if np.isfinite(value) else None for value in values)
        bars.append(Bar(item.name, mean, low, high))
    plot_bars(out / "pictures" / "ap40.png", bars, label="AP at IoU 0.4, mean over classes")
    chart = Figure("Mean AP40 with 95 % intervals", "pictures/ap40.png")
    blocks: list[Block] = [tables[0], chart, *tables[1:]]
    lead = f"{len(scored)} sets of predictions on {_num_images(scored)} images."
    return write_report(out, title="Boxes scored", lead=lead, blocks=blocks, synthetic=synthetic)


def _num_images(scored: Sequence[Scored]) -> int:
    return scored[0].boxes.true.shape[0]

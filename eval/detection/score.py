"""Scores anybody's COCO predictions against anybody's ground truth: `eval/run.py score`."""

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
from eval.detection.coco_ap import DetectionResult, evaluate
from eval.detection.coco_files import read_predictions, read_truth
from eval.detection.froc import froc_measure
from eval.detection.localization import accuracy_measure, ap_measure, corloc_measure
from eval.detection.rodeo import MIN_SCORE, rodeo_measure
from eval.detection.voc import voc_ap, voc_mean
from eval.report.blocks import Block, Figure, Table, write_report
from eval.report.charts import Bar, plot_bars
from eval.report.format import Cell, with_interval
from eval.report.text_tables import print_tables
from eval.stats.bootstrap import Counts, Interval, resample_counts
from eval.stats.measures import Bootstrapped, Measure, bootstrap, difference

NAMED_IOUS = {"ap10": 0.1, "ap30": 0.3, "ap40": 0.4, "ap50": 0.5, "ap70": 0.7}
MAIN_IOU = 0.4
NUM_RESAMPLES = 1000
BESIDE = {
    "froc": "FROC",
    "corloc": "CorLoc",
    "iou_accuracy30": "IoU > .3",
    "iou_accuracy50": "IoU > .5",
    "rodeo": "RoDeO",
}
"""Measures that need only boxes, by their heading in the table."""

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Scored:
    """One set of predictions: what COCO says, VOC beside it, and the measures that are resampled.

    drawn: "ap40" and the measures of BESIDE by their names, all from the same draws of images.
    """

    name: str
    result: DetectionResult
    voc: Mapping[str, float]
    drawn: Mapping[str, Bootstrapped]

    @property
    def interval(self) -> Interval:
        """95 % interval of the mean AP at the main IoU."""
        return self.drawn["ap40"].mean_interval


def score_files(truth_path: Path, predictions: Sequence[str], *, out: Path, seed: int = 0) -> Path:
    """Score files, print a table, write `metrics.json` and `report.html` into `out`; returns the page.

    predictions: "NAME=FILE" each. Intervals draw images with replacement, the same for all predictions.
    Raises UserError for whatever is wrong with names or files.
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

    Raises UserError as `evaluate` does.
    """
    result = evaluate(truth, found)
    measures: list[Measure] = [
        ap_measure(result.matches, MAIN_IOU),
        froc_measure(result.matches, iou=MAIN_IOU),
        corloc_measure(truth, found),
        accuracy_measure(truth, found, overlap="iou", threshold=0.3),
        accuracy_measure(truth, found, overlap="iou", threshold=0.5),
        rodeo_measure(truth, found),
    ]
    drawn = {measure.name: bootstrap(measure, counts) for measure in measures}
    return Scored(name, result, voc_ap(truth, found, iou=MAIN_IOU), drawn)


def parse_names(predictions: Sequence[str]) -> dict[str, Path]:
    """ "NAME=FILE" texts by name; UserError for another form, a slash in a name, or a name given twice."""
    named: dict[str, Path] = {}
    problems = []
    for text in predictions:
        name, equals, file = text.partition("=")
        if not (name and equals and file) or "/" in name:
            problems.append(f"--pred {text}: expected NAME=FILE, for instance yolo=detections.json")
        elif name in named:
            problems.append(f"--pred {text}: the name {name!r} is given twice; give each its own")
        else:
            named[name] = Path(file)
    if problems:
        raise UserError(problems)
    return named


def score_figures(scored: Sequence[Scored]) -> Figures:
    """Flat figures: `<name>/ap40`, `<name>/ap40/<class>`, `<name>/ap40/low`, `difference40/<a>/<b>`, ..."""
    figures: dict[str, float] = {}
    for item in scored:
        slugs = class_slugs(item.result.findings)
        for metric, (mean, by_class) in _averages(item).items():
            figures[f"{item.name}/{metric}"] = mean
            figures |= {f"{item.name}/{metric}/{slugs[c]}": value for c, value in by_class.items()}
        for metric, drawn in item.drawn.items():
            figures |= _interval(f"{item.name}/{metric}", drawn.mean_interval)
            for finding in drawn.findings:
                figures |= _interval(f"{item.name}/{metric}/{slugs[finding]}", drawn.interval(finding))
    for first, second in combinations(scored, 2):
        gap = difference(first.drawn["ap40"], second.drawn["ap40"])
        name = f"difference40/{first.name}/{second.name}"
        figures |= {name: gap.value, **_interval(name, Interval(gap.low, gap.high))}
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}


def _averages(item: Scored) -> dict[str, tuple[float, Mapping[str, float]]]:
    """Metric -> (mean over classes, by class)."""
    result = item.result
    averages = {name: (result.mean_ap(iou), result.ap(iou)) for name, iou in NAMED_IOUS.items()}
    beside = {"ap5095": (result.mean_ap5095(), result.ap5095()), "voc40": (voc_mean(item.voc), item.voc)}
    drawn = {
        name: (one.mean, dict(zip(one.findings, one.values.tolist(), strict=True)))
        for name, one in item.drawn.items()
        if name in BESIDE
    }
    return {**averages, **beside, **drawn}


def _interval(name: str, interval: Interval) -> dict[str, float]:
    return {f"{name}/low": interval.low, f"{name}/high": interval.high}


def score_tables(scored: Sequence[Scored]) -> list[Table]:
    """The means, the measures beside AP, the classes, and, where there are several predictions, their differences."""
    tables = [_means_table(scored), _beside_table(scored), _classes_table(scored)]
    return tables if len(scored) < 2 else [*tables, _differences_table(scored)]


def _means_table(scored: Sequence[Scored]) -> Table:
    rows: list[list[Cell]] = []
    for item in scored:
        mean = {metric: value for metric, (value, _) in _averages(item).items()}
        rows.append(
            [
                item.name,
                mean["ap40"],
                with_interval(None, item.interval.low, item.interval.high),
                *(mean[metric] for metric in ("ap10", "ap30", "ap50", "ap70", "ap5095", "voc40")),
            ]
        )
    result = scored[0].result
    left_out = ", ".join(result.left_out) or "none"
    num = len(result.image_ids)
    note = (
        f"Mean over classes with true boxes, {num} images; left out: {left_out}. "
        "The interval draws images with replacement."
    )
    names = ["AP40", "95 % interval", "AP10", "AP30", "AP50", "AP70", "AP50:95", "VOC40"]
    return Table("Average precision", ["predictions", *names], rows, note)


def _beside_table(scored: Sequence[Scored]) -> Table:
    rows: list[list[Cell]] = []
    for item in scored:
        shown = [item.drawn[name] for name in BESIDE]
        intervals = [one.mean_interval for one in shown]
        cells = zip(shown, intervals, strict=True)
        rows.append([item.name, *(with_interval(one.mean, i.low, i.high) for one, i in cells)])
    note = (
        "FROC: mean share of true boxes found at 1/8 to 8 false boxes an image (IoU .4). CorLoc, IoU > T: images of a "
        f"class whose best-scored box overlaps enough. RoDeO: of the boxes with a score of {MIN_SCORE} or more."
    )
    return Table("Beside average precision", ["predictions", *BESIDE.values()], rows, note)


def _classes_table(scored: Sequence[Scored]) -> Table:
    result = scored[0].result
    rows: list[list[Cell]] = [
        [
            match.finding,
            int(match.num_true.sum()),
            *(item.result.ap(MAIN_IOU)[match.finding] for item in scored),
        ]
        for match in result.matches
    ]
    return Table("AP40 by class", ["class", "true boxes", *(item.name for item in scored)], rows)


def _differences_table(scored: Sequence[Scored]) -> Table:
    """The best against each of the others."""
    order = sorted(scored, key=lambda item: -np.nan_to_num(item.result.mean_ap(MAIN_IOU)))
    rows: list[list[Cell]] = []
    for other in order[1:]:
        gap = difference(order[0].drawn["ap40"], other.drawn["ap40"])
        verdict = "clear" if gap.is_clear else "could be chance"
        rows.append([other.name, gap.value, with_interval(None, gap.low, gap.high), verdict])
    columns = [f"{order[0].name} above", "AP40 difference", "95 % interval", "verdict"]
    return Table("Is the best one better?", columns, rows, "Paired: the same drawn images for both.")


def _write_page(out: Path, scored: Sequence[Scored], *, tables: Sequence[Table], synthetic: bool) -> Path:
    bars = [
        Bar(
            item.name,
            _known(item.result.mean_ap(MAIN_IOU)),
            _known(item.interval.low),
            _known(item.interval.high),
        )
        for item in scored
    ]
    plot_bars(out / "pictures" / "ap40.png", bars, label="AP at IoU 0.4, mean over classes")
    chart = Figure("Mean AP40 with 95 % intervals", "pictures/ap40.png")
    blocks: list[Block] = [tables[0], chart, *tables[1:]]
    lead = f"{len(scored)} sets of predictions on {len(scored[0].result.image_ids)} images."
    return write_report(out, title="Boxes scored", lead=lead, blocks=blocks, synthetic=synthetic)


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None

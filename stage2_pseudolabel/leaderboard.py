"""Every method and prior on the test split, with intervals and a verdict; the choice is made on the tune split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cxr.coco import CocoBoxes
from cxr.labels import slug
from eval.bootstrap import (
    Difference,
    bootstrap_class_ap,
    bootstrap_difference,
    bootstrap_mean_ap,
)
from eval.detection import DetectionResult, evaluate
from eval.voc import voc_ap, voc_mean
from stage2_pseudolabel.boxes_from_cam import Rule

PRIORS = ("prior_mean_box", "prior_center_box", "prior_no_map")
"""What looks at no map; `prior_no_map` is the Bayes rule with beta 0, so it tells what the maps add to that rule."""


@dataclass(frozen=True)
class Entry:
    """A row of the leaderboard.

    tune_ap: mean AP at IoU .4 on the tune split with the tuned rules; NaN for a prior, which is never chosen.
    rules: one a finding; empty for a prior.
    detections, result: on the test split.
    """

    name: str
    tune_ap: float
    rules: tuple[Rule, ...]
    detections: CocoBoxes
    result: DetectionResult


@dataclass(frozen=True)
class Board:
    """All entries, the chosen method, and what separates it from the others on the test split."""

    entries: tuple[Entry, ...]
    best: Entry
    differences: Mapping[str, Difference]
    metrics: Mapping[str, float]


def score_entry(
    name: str, truth: CocoBoxes, detections: CocoBoxes, *, tune_ap: float, rules: Sequence[Rule] = ()
) -> Entry:
    """Evaluate a set of detections on the test split."""
    return Entry(name, tune_ap, tuple(rules), detections, evaluate(truth, detections))


def make_board(
    entries: Sequence[Entry], truth: CocoBoxes, groups: Sequence[str], *, num_resamples: int, seed: int
) -> Board:
    """Choose the method with the highest tune AP (the first of equals) and compare all others with it."""
    methods = [entry for entry in entries if entry.name not in PRIORS]
    best = max(methods, key=lambda entry: entry.tune_ap)
    options = {"num_resamples": num_resamples, "seed": seed}
    differences = {
        entry.name: bootstrap_difference((best.result.matches, entry.result.matches), groups, **options)
        for entry in entries
        if entry is not best
    }
    metrics: dict[str, float] = {}
    for entry in entries:
        metrics |= _figures(entry, truth, groups, options)
    return Board(tuple(entries), best, differences, metrics)


def _figures(
    entry: Entry, truth: CocoBoxes, groups: Sequence[str], options: Mapping[str, int]
) -> dict[str, float]:
    name, result = entry.name, entry.result
    figures = {f"ap{round(100 * iou)}/{name}": result.mean_ap(iou) for iou in (0.1, 0.3, 0.4, 0.5, 0.7)}
    figures[f"ap5095/{name}"] = result.mean_ap5095()
    figures[f"voc40/{name}"] = voc_mean(voc_ap(truth, entry.detections))
    figures[f"tune_ap40/{name}"] = entry.tune_ap
    mean = bootstrap_mean_ap(result.matches, groups, **options)
    figures |= {f"ap40/{name}/low": mean.low, f"ap40/{name}/high": mean.high}
    intervals = bootstrap_class_ap(result.matches, groups, **options)
    for finding, value in result.ap(0.4).items():
        key = f"ap40/{name}/{slug(finding)}"
        figures |= {
            key: value,
            f"{key}/low": intervals[finding].low,
            f"{key}/high": intervals[finding].high,
        }
    return figures


def verdict(board: Board) -> str:
    """In words: the chosen method, and which others are not clearly worse on the test split."""
    rivals = [n for n, d in board.differences.items() if n not in PRIORS and not d.low > 0]
    beaten = [n for n in PRIORS if n in board.differences and board.differences[n].low > 0]
    missed = [n for n in PRIORS if n in board.differences and n not in beaten]
    value = board.best.result.mean_ap(0.4)
    lines = [f"Chosen on the tune split: {board.best.name}, mean AP40 {value:.3f} on the test split."]
    if rivals:
        lines.append("Not clearly worse than it there (the 95 % interval of the difference holds zero): ")
        lines[-1] += ", ".join(rivals) + "."
    else:
        lines.append("Every other method is clearly worse there.")
    if beaten:
        lines.append(f"Clearly better than {' and '.join(beaten)}.")
    if missed:
        lines.append(f"NOT clearly better than {' and '.join(missed)}.")
    return " ".join(lines)

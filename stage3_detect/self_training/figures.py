"""Figures of a round: AP40 of its detector on the tune split, and how its labels changed."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from cxr.coco import CocoBoxes
from cxr.metrics import Metrics
from eval.detection.pairing import BoxPairs, box_pairs, match_greedily
from eval.report.format import figure_text
from eval.stats.bootstrap import resample_counts
from eval.stats.measures import Measure, bootstrap, difference
from stage3_detect.self_training.relabel import STUDENT

SAME_IOU = 0.5
"""Boxes of two rounds with at least this IoU count as the same box."""

_AP40 = ("tune_ap40", "tune_ap40/low", "tune_ap40/high")
_GAIN = ("tune_gain", "tune_gain/low", "tune_gain/high")
_SOURCES = ("teacher", "student", "both")
_KEY = ["image_id", "finding"]


def tune_figures(tune: CocoBoxes, result: Measure, best: Measure | None, *, num_resamples: int, seed: int) -> Metrics:
    """AP40 on the tune split with its interval, and its paired gain over the best earlier round.

    Args:
        best: result of the best earlier round; None in the first round, which has no gain.
    """
    counts = resample_counts(tune.groups, num_resamples=num_resamples, seed=seed)
    own = bootstrap(result, counts)
    values = (own.mean, own.mean_interval.low, own.mean_interval.high)
    figures = dict(zip(_AP40, map(_known, values), strict=True))
    if best is None:
        return figures | dict.fromkeys(_GAIN)
    gain = difference(own, bootstrap(best, counts))
    return figures | dict(zip(_GAIN, map(_known, (gain.value, gain.low, gain.high)), strict=True))


def no_tune_figures() -> Metrics:
    """The names of `tune_figures` without values, for a tune split without boxes."""
    return dict.fromkeys((*_AP40, *_GAIN))


def label_figures(labels: CocoBoxes, before: CocoBoxes | None) -> Metrics:
    """Figures of the labels that a round is trained on: num_boxes and num_regions; number of boxes by source
    (from_teacher, from_student, from_both); mean_confidence in [0, 1].

    Compared with the labels of the previous round (None in the first round): num_kept of its boxes are kept (IoU at
    least 0.5), num_dropped are not, num_added are new, each also by source (num_kept/teacher, ...). mean_iou averages
    over its boxes the IoU with the nearest new box of the same image and finding, 0 without one.
    """
    boxes = labels.without_ignored().boxes
    by = sources(boxes)
    sure = boxes["confidence"] if "confidence" in boxes else pd.Series(dtype=np.float64)
    figures: Metrics = {"num_boxes": float(len(boxes)), "num_regions": float(labels.is_ignored.sum())}
    figures |= {f"from_{name}": float((by == name).sum()) for name in _SOURCES}
    figures["mean_confidence"] = _known(float(sure.mean()))
    return figures | _changes(boxes, before)


def sources(boxes: pd.DataFrame) -> "pd.Series[str]":
    """Source of each box: teacher, student or both, from the column `method` of `relabel`; teacher without it."""
    methods = (boxes["method"] if "method" in boxes else pd.Series("", boxes.index)).astype(str)
    both = methods.str.endswith(f"+{STUDENT}")
    return methods.where(both, "teacher").where(~both, "both").where(methods != STUDENT, STUDENT)


def _changes(boxes: pd.DataFrame, before: CocoBoxes | None) -> Metrics:
    names = ["num_kept", "num_dropped", "num_added"]
    by_source = [f"{name}/{by}" for name in names for by in _SOURCES]
    if before is None:
        return dict.fromkeys([*names, *by_source, "mean_iou"])
    old = before.without_ignored().boxes.reset_index(drop=True)
    pairs = box_pairs(old, boxes, by=_KEY)
    kept = np.isin(np.arange(len(old)), match_greedily(pairs, iou=SAME_IOU))
    reverse = BoxPairs(pairs.second, pairs.first, pairs.iou)
    found = np.isin(np.arange(len(boxes)), match_greedily(reverse, iou=SAME_IOU))
    groups = {"num_kept": sources(old)[kept], "num_dropped": sources(old)[~kept]}
    groups["num_added"] = sources(boxes.reset_index(drop=True))[~found]
    figures: Metrics = {name: float(len(by)) for name, by in groups.items()}
    for name, by in groups.items():
        figures |= {f"{name}/{who}": float((by == who).sum()) for who in _SOURCES}
    nearest = np.zeros(len(old))
    np.maximum.at(nearest, pairs.first, pairs.iou)
    return figures | {"mean_iou": _known(float(nearest.mean()) if len(old) else math.nan)}


def describe(figures: Metrics) -> str:
    """One line for the log."""
    words = []
    if figures["tune_ap40"] is not None:
        words.append(f"AP40 on tune {figure_text(figures, 'tune_ap40')}")
    if figures["tune_gain"] is not None:
        words.append(f"gain {figure_text(figures, 'tune_gain')} over the best earlier round")
    words.append(f"{figures['num_boxes']:.0f} boxes")
    if figures["num_kept"] is not None:
        counts = (figures["num_kept"], figures["num_dropped"], figures["num_added"])
        words.append("{:.0f} kept, {:.0f} dropped, {:.0f} new".format(*counts))
    if figures["mean_confidence"] is not None:
        words.append(f"mean confidence {figures['mean_confidence']:.2f}")
    return ", ".join(words)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def best_round(aps: Sequence[float | None]) -> int:
    """Number of the round with the highest AP40, the first on ties; 0 where no round has an AP40."""
    known = [(ap, -number) for number, ap in enumerate(aps) if ap is not None]
    return -max(known)[1] if known else 0


def reason_to_stop(aps: Sequence[float | None], *, max_rounds: int, min_gain: float) -> str | None:
    """Why no further round follows; None where one follows. aps: AP40 of the rounds so far, from round 0 on.

    Round 0 is trained on the teacher's boxes alone; up to `max_rounds` relabelled rounds follow. They end earlier when
    the last AP40 does not exceed the best earlier one by more than `min_gain`.
    """
    if len(aps) > max_rounds:
        return "reached max_rounds"
    if len(aps) < 2:
        return None
    last, before = aps[-1], max((ap for ap in aps[:-1] if ap is not None), default=None)
    if last is None or (before is not None and last - before <= min_gain):
        return "no gain on the tune split"
    return None

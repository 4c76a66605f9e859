"""The operating point that decides which boxes of a run are shown."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cxr.config import UserError
from eval.detection.curves import Confidence
from eval.detection.points import OperatingPoint, default_point, read_points
from eval.report.format import listed, short_interval

STATED_SCORE = 0.25
"""Used where a run chose no operating point; the default of ultralytics."""

SAME_CONFIDENCE = 1e-6
"""Scores are found by inverting the curves, so confidences of one point differ by rounding."""


def open_point(manifest: Mapping[str, Any], wanted: str | None) -> OperatingPoint:
    """The operating point named `wanted`, or the score `wanted` for all findings. None means the first of
    `DEFAULT_POINTS` that the run has, else `STATED_SCORE`.

    Args:
        manifest: of a stage 3 run or a bundle.

    Raises:
        UserError: `wanted` is neither a name that the run has nor a number from 0 to 1.
    """
    known = read_points(manifest.get("operating_points", {}))
    if wanted is None:
        chosen = default_point(known)
        wanted = str(STATED_SCORE) if chosen is None else chosen.name
    if wanted in known:
        return known[wanted]
    try:
        score = float(wanted)
    except ValueError:
        score = math.nan
    if not 0 <= score <= 1:
        raise UserError(f"--points {wanted}: expected one of {', '.join([*known, 'a score from 0 to 1'])}")
    return OperatingPoint(wanted, "one score for all findings", dict.fromkeys(manifest["findings"], score))


def shared_confidence(point: OperatingPoint, confidence: Confidence | None) -> float | None:
    """The confidence from which the point shows boxes, if it is the same for all findings; else None.

    Args:
        confidence: of the run; without it, scores are compared.
    """
    limits = {finding: score for finding, score in point.scores.items() if 0 < score < math.inf}
    values = np.array(list(limits.values()), dtype=np.float64)
    if confidence is not None:
        values = confidence.of_scores(list(limits), values)
    is_shared = len(values) > 0 and float(np.ptp(values)) < SAME_CONFIDENCE
    return float(values[0]) if is_shared else None


def remark(manifest: Mapping[str, Any], point: OperatingPoint, *, asked: bool) -> str:
    """A warning about the operating point in one line; "" for none."""
    if not asked and not manifest.get("operating_points"):
        return f"the run has no operating points: boxes with a score of {point.name} or more are shown"
    never = [name for name in manifest["findings"] if not math.isfinite(point.scores.get(name, math.inf))]
    if never:
        names = ", ".join(never)
        return f"operating point {point.name} never shows {names}: no score met its condition on the tune split"
    return ""


def measured_words(point: OperatingPoint) -> str:
    """How the point was chosen, and what it does on the test split, in one line; "" where nothing was measured."""
    measured = point.measured
    if measured is None:
        return ""
    rate = short_interval(measured.false_per_image, measured.low, measured.high)
    words = f"{words_of(point)} ({point.about}): {rate} false boxes per image on the test split"
    return words + (f"; found no box of {listed(measured.never_found)} there" if measured.never_found else "")


def words_of(point: OperatingPoint) -> str:
    """ "operating point f1", or "score 0.25"."""
    is_number = point.name.replace(".", "", 1).isdigit()
    return f"score {point.name}" if is_number else f"operating point {point.name}"

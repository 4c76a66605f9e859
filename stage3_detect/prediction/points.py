"""Which operating point a user means: one that the run chose on its tune split, or a score."""

import math
from collections.abc import Mapping

from cxr.config import UserError
from cxr.runs.run_folder import FinishedRun
from eval.detection.operating_points import BEST_F1, OperatingPoint, read_points

STATED_SCORE = 0.25
"""Where a run chose nothing: ultralytics' own default, and nobody's operating point."""


def open_point(run: FinishedRun, wanted: str | None) -> OperatingPoint:
    """The run's operating point of the name `wanted`, or one score for all findings. None: that of the best F1, where
    the run chose one, else `STATED_SCORE`.

    Raises:
        UserError: neither a name that the run has nor a number from 0 to 1.
    """
    known = read_points(run.manifest.get("operating_points", {}))
    if wanted is None:
        wanted = BEST_F1 if BEST_F1 in known else str(STATED_SCORE)
    if wanted in known:
        return known[wanted]
    score = _score(wanted, known)
    return OperatingPoint(
        wanted, "one score for all findings", dict.fromkeys(run.manifest["findings"], score)
    )


def remark(run: FinishedRun, point: OperatingPoint, *, asked: bool) -> str:
    """What the user should know of the point before the boxes are read, in one line; "" for nothing."""
    if not asked and not run.manifest.get("operating_points"):
        return f"the run has no operating points: boxes are shown from a score of {point.name} on"
    never = [name for name in run.manifest["findings"] if not math.isfinite(point.scores.get(name, math.inf))]
    if never:
        return f"operating point {point.name} never shows {', '.join(never)}: no box of it was right on tune"
    return ""


def words_of(point: OperatingPoint) -> str:
    """ "operating point f1", or "score 0.25"."""
    is_number = point.name.replace(".", "", 1).isdigit()
    return f"score {point.name}" if is_number else f"operating point {point.name}"


def _score(wanted: str, known: Mapping[str, object]) -> float:
    try:
        score = float(wanted)
    except ValueError:
        score = math.nan
    if not 0 <= score <= 1:
        names = ", ".join([*known, "a score from 0 to 1"])
        raise UserError(f"--points {wanted}: expected one of {names}")
    return score

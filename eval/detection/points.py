"""An operating point: the score of each finding from which on its boxes are shown.

Points are chosen in eval/detection/operating_points.py. This module needs no pandas, since the service uses it.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr.arrays import Bools
from cxr.config import UserError
from cxr.labels import slug

if TYPE_CHECKING:
    import pandas as pd

BEST_F1, FEW_FALSE = "f1", "half_fp"
"""Names of the point with the best F1 of each finding, and of the point that aims at half a false box per image."""

DEFAULT_POINTS = (FEW_FALSE, BEST_F1)
"""What `predict.py` and the service show boxes by where the user names no point: the first of these that a run has."""


@dataclass(frozen=True)
class Measured:
    """What a point does on the test split.

    false_per_image: false boxes per image, all findings together; low, high: ends of its 95 % interval, None where
    unknown. never_found: findings with true boxes of which it finds none.
    """

    false_per_image: float
    low: float | None = None
    high: float | None = None
    never_found: tuple[str, ...] = ()


@dataclass(frozen=True)
class OperatingPoint:
    """Boxes of a finding are shown if their score is at least its threshold.

    name: "f1", "half_fp" or "one_fp". about: how it was chosen, in words. scores: finding -> threshold; infinite where
    no box of the finding is shown. measured: None where unknown.
    """

    name: str
    about: str
    scores: Mapping[str, float]
    measured: Measured | None = None

    def shows(self, boxes: "pd.DataFrame") -> Bools:
        """(N,) which rows of a table with finding and score are shown; none of a finding without a threshold."""
        least = boxes["finding"].map(lambda name: self.scores.get(name, math.inf)).to_numpy(dtype=np.float64)
        return np.asarray(boxes["score"].to_numpy(dtype=np.float64) >= least, dtype=np.bool_)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with null for an infinite score; `read_points` is the inverse."""
        scores = {name: score if math.isfinite(score) else None for name, score in self.scores.items()}
        measured = {} if self.measured is None else {"measured": asdict(self.measured)}
        return {"about": self.about, "scores": scores, **measured}


def default_point(points: Mapping[str, OperatingPoint]) -> OperatingPoint | None:
    """The first of `DEFAULT_POINTS` among points by name; None without one."""
    return next((points[name] for name in DEFAULT_POINTS if name in points), None)


def read_points(entry: Mapping[str, Any]) -> dict[str, OperatingPoint]:
    """Points by name from a manifest's `operating_points`; UserError for damaged entries."""
    try:
        return {
            str(name): OperatingPoint(
                str(name),
                str(fields["about"]),
                {str(f): math.inf if s is None else float(s) for f, s in fields["scores"].items()},
                _measured(fields.get("measured")),
            )
            for name, fields in entry.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"operating points: damaged ({error!r}); run the command of that run again") from None


def _measured(entry: Mapping[str, Any] | None) -> Measured | None:
    if entry is None:
        return None
    return Measured(entry["false_per_image"], entry["low"], entry["high"], tuple(entry["never_found"]))


def with_measured(
    points: Mapping[str, OperatingPoint], metrics: Mapping[str, float | None]
) -> dict[str, OperatingPoint]:
    """The points with their figures on the test split. metrics: of the stage 3 run."""
    return {name: replace(point, measured=_of_metrics(point, metrics)) for name, point in points.items()}


def _of_metrics(point: OperatingPoint, metrics: Mapping[str, float | None]) -> Measured | None:
    key = f"false_positives_per_image/{point.name}"
    rate = metrics.get(key)
    if rate is None:
        return None
    return Measured(rate, metrics.get(f"{key}/low"), metrics.get(f"{key}/high"), never_found(point, metrics))


def never_found(point: OperatingPoint, metrics: Mapping[str, float | None]) -> tuple[str, ...]:
    """Findings that the point can show, and of which it found none of the true boxes on the test split."""
    shown = [name for name, score in point.scores.items() if math.isfinite(score)]
    return tuple(name for name in shown if metrics.get(f"sensitivity/{point.name}/{slug(name)}") == 0)

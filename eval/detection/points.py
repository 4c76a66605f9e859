"""An operating point: the score of each finding from which on its boxes are shown.

Points are chosen in eval/detection/operating_points.py. This module needs no pandas, since the service uses it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr.arrays import Bools
from cxr.config import UserError

if TYPE_CHECKING:
    import pandas as pd

BEST_F1, FEW_FALSE = "f1", "half_fp"
"""Names of the point with the best F1 of each finding, and of the point with half a false box per image."""


@dataclass(frozen=True)
class OperatingPoint:
    """Boxes of a finding are shown if their score is at least its threshold.

    name: "f1", "half_fp" or "one_fp". about: how it was chosen, in words. scores: finding -> threshold; infinite where
    no box of the finding is shown.
    """

    name: str
    about: str
    scores: Mapping[str, float]

    def shows(self, boxes: "pd.DataFrame") -> Bools:
        """(N,) which rows of a table with finding and score are shown; none of a finding without a threshold."""
        least = boxes["finding"].map(lambda name: self.scores.get(name, math.inf)).to_numpy(dtype=np.float64)
        return np.asarray(boxes["score"].to_numpy(dtype=np.float64) >= least, dtype=np.bool_)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with null for an infinite score; `read_points` is the inverse."""
        scores = {name: score if math.isfinite(score) else None for name, score in self.scores.items()}
        return {"about": self.about, "scores": scores}


def read_points(entry: Mapping[str, Any]) -> dict[str, OperatingPoint]:
    """Points by name from a manifest's `operating_points`; UserError for damaged entries."""
    try:
        return {
            str(name): OperatingPoint(
                str(name),
                str(fields["about"]),
                {str(f): math.inf if s is None else float(s) for f, s in fields["scores"].items()},
            )
            for name, fields in entry.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"operating points: damaged ({error!r}); run the command of that run again") from None

"""Curves from the score of a box to its confidence: the probability that the box matches a true one.

They are fitted in eval/detection/confidence.py. This module needs no pandas, since the service uses it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logit

from cxr.arrays import Floats
from cxr.config import UserError
from eval.stats.calibration import Curve

if TYPE_CHECKING:
    import pandas as pd

CLIP = 1e-6
"""Scores are kept at least this far from 0 and 1, so that no single box outweighs all others."""


@dataclass(frozen=True)
class Confidence:
    """Curves from score to confidence: one per finding, and `pooled` for findings without their own."""

    pooled: Curve
    by_finding: Mapping[str, Curve]

    def of(self, boxes: "pd.DataFrame") -> Floats:
        """(N,) confidence in [0, 1] of a table with finding and score in [0, 1]; NaN for a score of NaN.

        Within a finding a higher score never has a lower confidence.
        """
        return self.of_scores(boxes["finding"].tolist(), boxes["score"].to_numpy(dtype=np.float64))

    def of_scores(self, names: Sequence[str], scores: Floats) -> Floats:
        """As `of`, from the findings `names` (N,) and their scores (N,)."""
        scores = np.clip(scores, CLIP, 1 - CLIP)
        findings = np.array(names, dtype=object)
        confidence = np.zeros(len(scores))
        for finding in set(findings.tolist()):
            own = findings == finding
            confidence[own] = self.by_finding.get(finding, self.pooled).apply(scores[own])
        return confidence

    def score_at(self, finding: str, confidence: float) -> float:
        """The lowest score in [0, 1] whose confidence is at least `confidence`; infinite if no score reaches it."""
        curve = self.by_finding.get(finding, self.pooled)
        ends = curve.apply(np.array([CLIP, 1 - CLIP]))
        if ends[0] >= confidence:
            return 0.0
        if ends[1] < confidence:
            return float("inf")
        return float(expit((logit(confidence) - curve.offset) / curve.scale))

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` is the inverse."""

        def plain(curve: Curve) -> dict[str, float]:
            return {"scale": curve.scale, "offset": curve.offset}

        return {"pooled": plain(self.pooled), "by_finding": {name: plain(c) for name, c in self.by_finding.items()}}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> "Confidence":
        """The inverse of `as_dict`; UserError for damaged entries."""
        try:
            by_finding = {str(name): _curve(fields) for name, fields in entry["by_finding"].items()}
            return cls(_curve(entry["pooled"]), by_finding)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"score curves: damaged ({error!r}); run the command of that run again") from None


def _curve(fields: Mapping[str, Any]) -> Curve:
    return Curve(scale=float(fields["scale"]), offset=float(fields["offset"]))

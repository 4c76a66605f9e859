"""Operating points of a detector: the score of each finding from which on its boxes are shown.

They are chosen on the tune split and reported on the test split. Boxes of different findings are compared by their
calibrated confidence, because equal scores of two findings can mean different probabilities.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from cxr.arrays import Bools, Floats
from eval.detection.curves import Confidence
from eval.detection.matching import MAIN_IOU, ClassMatches
from eval.detection.points import BEST_F1, FEW_FALSE, OperatingPoint
from eval.detection.rodeo import f1_thresholds
from eval.stats.bootstrap import Counts
from eval.stats.measures import Measure, share_measure

RATES = {FEW_FALSE: 0.5, "one_fp": 1.0}
"""Name of a point -> false positives per image that it allows on the tune split, all findings together."""

MIN_CONFIDENCE = 0.05
"""No point shows a box below this confidence.

The confidence at which F1 is best is half the best F1 (Lipton, Elkan and Naryanaswamy, Optimal Thresholding of
Classifiers to Maximize F1 Measure, ECML PKDD 2014). A lower one means a best F1 below .1. It is reached by showing
nearly every box of a finding that the detector does not know, so these boxes tell a reader nothing.
"""

ALL_FINDINGS = "all findings"
_TINY = 1e-15


def choose_points(
    matches: Sequence[ClassMatches], confidence: Confidence, *, iou: float = MAIN_IOU
) -> list[OperatingPoint]:
    """The points of best F1 and of each of `RATES`, from matches on the tune split."""
    limited = [limited_point(name, rate, matches, confidence, iou=iou) for name, rate in RATES.items()]
    return [best_f1_point(matches, confidence, iou=iou), *limited]


def best_f1_point(matches: Sequence[ClassMatches], confidence: Confidence, *, iou: float = MAIN_IOU) -> OperatingPoint:
    """The threshold with the best F1 of each finding among confidences of at least `MIN_CONFIDENCE`.

    A finding without a correct box of that confidence on the tune split is never shown.
    """
    least = {m.finding: confidence.score_at(m.finding, MIN_CONFIDENCE) for m in matches}
    about = f"highest F1 of each finding at IoU {iou:g} on tune, from a confidence of {MIN_CONFIDENCE:g} on"
    return OperatingPoint(BEST_F1, about, f1_thresholds(matches, iou=iou, least=least))


def limited_point(
    name: str, rate: float, matches: Sequence[ClassMatches], confidence: Confidence, *, iou: float = MAIN_IOU
) -> OperatingPoint:
    """One confidence for all findings: the lowest with at most `rate` false positives per image, all findings together.

    It lies halfway (in logits) between the last box that is shown and the first that is not, and is at least
    `MIN_CONFIDENCE`.
    """
    found = [(m.finding, *m.ranked(iou)) for m in matches]
    parts = [pd.DataFrame({"finding": f, "score": s, "hit": hit}) for f, s, _, hit in found if len(s)]
    boxes = pd.concat(parts) if parts else pd.DataFrame({"finding": [], "score": [], "hit": []})
    is_false = ~boxes["hit"].to_numpy(dtype=bool)
    num_images = np.any([m.read_images for m in matches], axis=0).sum() if matches else 0
    least = max(MIN_CONFIDENCE, _lowest_within(confidence.of(boxes), is_false, rate * float(num_images)))
    scores = {m.finding: confidence.score_at(m.finding, least) for m in matches}
    return OperatingPoint(name, _about_limited(rate, least), scores)


def _about_limited(rate: float, least: float) -> str:
    limit = f"{rate:g} false positive{'s' * (rate != 1)} per image on tune"
    if not math.isfinite(least):
        return f"no box, because those of the highest confidence alone are more than {limit}"
    return f"one confidence ({least:.3f}) for all findings: at most {limit}"


def _lowest_within(confidence: Floats, is_false: Bools, allowed: float) -> float:
    """The lowest confidence from which on at most `allowed` of the (N,) boxes are false; infinite if none may."""
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    last = np.flatnonzero(np.diff(ranked, append=-np.inf))  # of each distinct confidence
    within = np.cumsum(is_false[order])[last] <= allowed
    if within.all():
        return 0.0
    first_out = int(np.argmin(within))
    if first_out == 0:
        return math.inf
    shown, hidden = ranked[last[first_out - 1]], ranked[last[first_out]]
    between = float(expit(logit(np.clip([shown, hidden], _TINY, 1 - _TINY)).mean()))
    # two confidences next to 1 may have no number between them
    return between if between > hidden else float(shown)


@dataclass(frozen=True)
class PointCounts:
    """Counts per image and finding, (I, K): boxes shown, those that found a true box, and true boxes.

    read: (I, K) 1 where somebody looked for the finding, else 0.
    """

    findings: tuple[str, ...]
    shown: Floats
    hits: Floats
    true: Floats
    read: Floats

    def pooled(self) -> "PointCounts":
        """All findings together as one column."""
        shown, hits, true = (part.sum(axis=1, keepdims=True) for part in (self.shown, self.hits, self.true))
        return PointCounts((ALL_FINDINGS,), shown, hits, true, self.read.max(axis=1, keepdims=True, initial=0))

    def measures(self) -> list[Measure]:
        """ "sensitivity", "precision", "false_positives_per_image" and "f1_score", ready for any resampling.

        Sensitivity and F1 are NaN without a true box, precision where nothing is shown.
        """
        return [
            share_measure("sensitivity", self.findings, self.hits, self.true),
            share_measure("precision", self.findings, self.hits, self.shown),
            share_measure("false_positives_per_image", self.findings, self.shown - self.hits, self.read),
            Measure("f1_score", self.findings, self._f1),
        ]

    def _f1(self, counts: Counts) -> Floats:
        shown, hits, true = (counts @ part for part in (self.shown, self.hits, self.true))
        return np.where(true > 0, 2 * hits / np.maximum(shown + true, 1), np.nan)


def count_at(
    point: OperatingPoint, matches: Sequence[ClassMatches], num_images: int, *, iou: float = MAIN_IOU
) -> PointCounts:
    """Count what the point shows on I images; boxes in ignore regions do not count.

    Matches of all boxes hold at any threshold, because COCO's matching takes boxes by falling score.
    """
    shape = (num_images, len(matches))
    shown, hits, true, read = (np.zeros(shape) for _ in range(4))
    for column, m in enumerate(matches):
        scores, image, is_hit = m.ranked(iou)
        kept = scores >= point.scores.get(m.finding, math.inf)
        shown[:, column] = np.bincount(image[kept], minlength=num_images)
        hits[:, column] = np.bincount(image[kept & is_hit], minlength=num_images)
        true[:, column], read[:, column] = m.num_true, m.read_images
    return PointCounts(tuple(m.finding for m in matches), shown, hits, true, read)

"""FROC: how many true boxes are found at a price of so many false alarms an image.

Source: the seven rates and their mean are those of LUNA16 (Setio et al., Validation, comparison, and combination of
algorithms for automatic detection of pulmonary nodules in computed tomography images, Medical Image Analysis 2017).
Its script reads the curve between two thresholds off a straight line; here a rate is met by the lowest
threshold there is that does not exceed it, which can be used in practice and never gives more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cxr.arrays import Floats, mean_over_classes
from eval.detection.average_precision import num_true_row, sum_rows
from eval.detection.matching import MAIN_IOU, ClassMatches
from eval.stats.bootstrap import Block, Counts, over_blocks
from eval.stats.measures import Measure

RATES: Floats = np.array([1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8])
"""False positives an image."""


@dataclass(frozen=True)
class FrocCurve:
    """Operating points of one class, one a distinct score, the highest threshold first; the first finds nothing.

    threshold: (P,) score from which on a detection counts, first infinite. false_positives: (P,) an image, over all
    images. sensitivity: (P,) share of the true boxes found, in [0, 1]; NaN without a true box.
    """

    finding: str
    threshold: Floats
    false_positives: Floats
    sensitivity: Floats


def froc_measure(matches: Sequence[ClassMatches], *, iou: float = MAIN_IOU) -> Measure:
    """Mean over RATES of the sensitivity, for each class: detections that found a true box over true boxes.

    Detections match as for AP at `iou` (a second one on the same true box is a false positive). All detections of
    one score are called together. False positives are counted over all images, also those without the class.
    """
    figures = [_figure(m, iou) for m in matches]

    def resampled(counts: Counts) -> Floats:
        return over_blocks(counts, figures)

    return Measure("froc", tuple(m.finding for m in matches), resampled)


def froc_curve(matches: ClassMatches, *, iou: float = MAIN_IOU) -> FrocCurve:
    """The whole curve of one class, every image once."""
    scores, _, is_hit = matches.ranked(iou)
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of each distinct score
    num_hits, num_called = np.cumsum(is_hit)[last], last + 1
    num_true, num_images = matches.num_true.sum(), max(1, len(matches.num_true))
    sensitivity = num_hits / num_true if num_true else np.full(len(last), np.nan)
    return FrocCurve(
        matches.finding,
        threshold=np.concatenate([[np.inf], scores[last]]),
        false_positives=np.concatenate([[0.0], (num_called - num_hits) / num_images]),
        sensitivity=np.concatenate([[0.0 if num_true else np.nan], sensitivity]),
    )


def sensitivity_at(curve: FrocCurve, rates: Floats) -> Floats:
    """(R,) sensitivity at the lowest threshold that has no more false positives an image than each rate."""
    place = np.searchsorted(curve.false_positives, rates, side="right") - 1
    return np.asarray(curve.sensitivity[place], dtype=np.float64)


def mean_sensitivity(matches: Sequence[ClassMatches], rates: Floats, *, iou: float = MAIN_IOU) -> Floats:
    """(R,) mean over the classes with true boxes of `sensitivity_at`; over `RATES` their mean is `froc_measure`'s."""
    rows = [sensitivity_at(froc_curve(m, iou=iou), rates) for m in matches]
    return mean_over_classes(np.stack(rows, axis=1)) if rows else np.full(len(rates), np.nan)


def _figure(matches: ClassMatches, iou: float) -> Callable[[Block], Floats]:
    """Mean sensitivity of one class as a figure for `over_blocks`."""
    scores, image, is_hit = matches.ranked(iou)
    hit_image, hit_score = image[is_hit], scores[is_hit]
    # A false positive counts from the first hit on that is called with it: one of its score, or of a lower one.
    first = np.searchsorted(-hit_score, -scores[~is_hit], side="left")
    shape = (len(hit_image), len(matches.num_true))
    false, true = sum_rows(first, image[~is_hit], shape=shape), num_true_row(matches.num_true)

    def figure(block: Block) -> Floats:
        num_true = (true @ block)[0]
        false_positives = np.cumsum(false @ block, axis=0) / np.maximum(block.sum(axis=0), 1)
        num_rates = len(RATES) - np.searchsorted(RATES, false_positives, side="left")
        found = (block[hit_image] * num_rates).sum(axis=0) / len(RATES)
        return np.where(num_true > 0, found / np.maximum(num_true, 1), np.nan)

    return figure

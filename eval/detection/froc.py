"""FROC: sensitivity by the number of false positives per image. A class without true boxes is NaN.

Source: the seven rates and their mean are those of LUNA16 (Setio et al., Validation, comparison, and combination of
algorithms for automatic detection of pulmonary nodules in computed tomography images, Medical Image Analysis 2017).
Its script interpolates between thresholds. Here the sensitivity at a rate is that of the lowest threshold that does
not exceed the rate, which is never higher.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cxr.arrays import Floats, mean_over_classes
from eval.detection.average_precision import num_true_row, sum_rows, true_boxes
from eval.detection.matching import MAIN_IOU, ClassMatches
from eval.stats.bootstrap import Block
from eval.stats.measures import Measure, blocks_measure

RATES: Floats = np.array([1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8])
"""False positives per image."""


@dataclass(frozen=True)
class FrocCurve:
    """The curve of one class: one point per distinct score, by falling threshold; the first threshold is infinite.

    threshold: (P,) a detection counts from this score on. false_positives: (P,) per image, over all images that were
    read for the class.
    sensitivity: (P,) share of the true boxes found, in [0, 1]; NaN without a true box.
    """

    finding: str
    threshold: Floats
    false_positives: Floats
    sensitivity: Floats


def froc_measure(matches: Sequence[ClassMatches], *, iou: float = MAIN_IOU) -> Measure:
    """Mean sensitivity over RATES of each class, in [0, 1]; NaN without a true box.

    Detections match as for AP at `iou`; a second one on the same true box is a false positive. Detections with equal
    scores count together. False positives are counted over all images that were read for the class, also those without
    it.
    """
    figures = [_figure(m, iou) for m in matches]
    return blocks_measure("froc", [m.finding for m in matches], figures, cases=true_boxes(matches))


def froc_curve(matches: ClassMatches, *, iou: float = MAIN_IOU) -> FrocCurve:
    """The curve of one class on the original sample."""
    scores, _, is_hit = matches.ranked(iou)
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of each distinct score
    num_hits, num_called = np.cumsum(is_hit)[last], last + 1
    num_true, num_images = matches.num_true.sum(), max(1, matches.read_images.sum())
    sensitivity = num_hits / num_true if num_true else np.full(len(last), np.nan)
    return FrocCurve(
        matches.finding,
        threshold=np.concatenate([[np.inf], scores[last]]),
        false_positives=np.concatenate([[0.0], (num_called - num_hits) / num_images]),
        sensitivity=np.concatenate([[0.0 if num_true else np.nan], sensitivity]),
    )


def sensitivity_at(curve: FrocCurve, rates: Floats) -> Floats:
    """(R,) sensitivity at the lowest threshold with at most each rate of false positives per image."""
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
    # A false positive counts from the first hit on that has the same score or a lower one.
    first = np.searchsorted(-hit_score, -scores[~is_hit], side="left")
    shape = (len(hit_image), len(matches.num_true))
    false, true = sum_rows(first, image[~is_hit], shape=shape), num_true_row(matches.num_true)
    read = matches.read_images

    def figure(block: Block) -> Floats:
        num_true = (true @ block)[0]
        false_positives = np.cumsum(false @ block, axis=0) / np.maximum(read @ block, 1)
        num_rates = len(RATES) - np.searchsorted(RATES, false_positives, side="left")
        found = (block[hit_image] * num_rates).sum(axis=0) / len(RATES)
        return np.where(num_true > 0, found / np.maximum(num_true, 1), np.nan)

    return figure

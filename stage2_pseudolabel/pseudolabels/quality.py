"""Precision and recall of pseudo-boxes at IoU .4, where the training images have true boxes.

Boxes are matched as for AP, in the order of their scores. Only images with a true box of the finding count, because a
label without a box says nothing about where the finding is. Images that the export excludes count too, so their true
boxes are missed, and so are those of findings without a pseudo-box. Ignore regions are neither hits nor false alarms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.arrays import Bools, Floats
from cxr.coco import BOX_FIELDS, CocoBoxes
from eval.detection.indexed import IndexedDetections
from eval.detection.matching import MAIN_IOU, ClassMatches
from eval.stats.bootstrap import Counts, resample_counts
from eval.stats.measures import Bootstrapped, bootstrap, bootstrap_figures, share_measure
from stage2_pseudolabel.pseudolabels.export import LOW_CONFIDENCE, PseudoLabels


@dataclass(frozen=True)
class Rates:
    """Precision and recall of a set of boxes per finding, with bootstrap resamples over patients."""

    precision: Bootstrapped
    recall: Bootstrapped
    num_boxes: int


@dataclass(frozen=True)
class Quality:
    """exported: boxes in the file. unfiltered: all boxes by the rules. num_true: true boxes, in num_images images.

    truth: the true boxes of the training images.
    """

    exported: Rates
    unfiltered: Rates
    num_true: int
    num_images: int
    truth: CocoBoxes

    def metrics(self) -> dict[str, float]:
        """Figures as metrics.json names them."""
        figures: dict[str, float] = {}
        for ending, rates in (("", self.exported), ("_unfiltered", self.unfiltered)):
            for name, scored in (("precision", rates.precision), ("recall", rates.recall)):
                figures |= bootstrap_figures(f"pseudo_{name}40{ending}", scored, with_ends=True)
        return figures


def pseudo_label_quality(
    labels: PseudoLabels, truth: CocoBoxes | None, *, num_resamples: int = 1000, seed: int = 0
) -> Quality | None:
    """Compare pseudo-labels with true boxes; None if no training image has a true box of their findings.

    Args:
        truth: boxes of all training images, also of those that the export excluded.
    """
    if truth is None or truth.without_ignored().boxes.empty:
        return None
    assert truth.findings == labels.coco.findings, "findings in the same order"
    known = _images_with_boxes(truth)
    counts = resample_counts(known.groups, num_resamples=num_resamples, seed=seed)
    every = labels.coco.boxes
    if "ignored_by" in every:
        every = every[~labels.coco.is_ignored | (every["ignored_by"] == LOW_CONFIDENCE).to_numpy()]
    every = pd.concat([part[BOX_FIELDS] for part in (every, labels.dropped, labels.unseen)], ignore_index=True)
    exported, unfiltered = (_rates(known, boxes, counts) for boxes in (labels.coco.without_ignored().boxes, every))
    return Quality(exported, unfiltered, len(known.boxes), len(known.images), truth)


def _images_with_boxes(truth: CocoBoxes) -> CocoBoxes:
    """The images with a true box: only these count, and resamples of all images would be large."""
    real = truth.without_ignored()
    there = real.images["image_id"].isin(set(real.boxes["image_id"]))
    return CocoBoxes(real.images[there].reset_index(drop=True), real.boxes, real.findings, real.info)


def _rates(truth: CocoBoxes, boxes: pd.DataFrame, counts: Counts) -> Rates:
    boxes = boxes[boxes["image_id"].isin(set(truth.images["image_id"]))]
    matches = IndexedDetections(truth, truth.with_boxes(boxes)).match((MAIN_IOU,))
    num_true = np.stack([m.num_true for m in matches], axis=1).astype(np.float64)
    counted = num_true > 0
    hits = _sums(matches, [m.hit[0] for m in matches]) * counted
    found = _sums(matches, [np.ones(len(m.image), dtype=bool) for m in matches]) * counted
    precision = share_measure("pseudo_precision40", truth.findings, hits, found)
    recall = share_measure("pseudo_recall40", truth.findings, hits, num_true)
    return Rates(bootstrap(precision, counts), bootstrap(recall, counts), int(found.sum()))


def _sums(matches: Sequence[ClassMatches], counted: Sequence[Bools]) -> Floats:
    """(I, K): number of detections that count per image and class."""
    sums = [np.bincount(m.image[own], minlength=len(m.num_true)) for m, own in zip(matches, counted, strict=True)]
    return np.stack(sums, axis=1).astype(np.float64)

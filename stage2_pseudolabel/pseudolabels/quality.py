"""What pseudo-boxes are worth where the training images have true boxes: precision and recall at IoU .4.

A true box and a pseudo-box pair off as in AP, the best score first. Only images with a true box of the finding are
looked at: an affirmed finding that nobody drew says nothing about a box. All of them are, also those that the export
leaves out, so a true box without a pseudo-box is missed whatever the reason. An ignore region is no box: neither a hit
nor a false alarm.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.arrays import Bools, Floats
from cxr.coco import BOX_FIELDS, CocoBoxes
from cxr.labels import slug
from eval.detection.indexed import Indexed
from eval.detection.matching import MAIN_IOU, ClassMatches
from eval.stats.bootstrap import Counts, resample_counts
from eval.stats.measures import Bootstrapped, bootstrap, share_measure
from stage2_pseudolabel.pseudolabels.filters import LOW_CONFIDENCE


@dataclass(frozen=True)
class Rates:
    """Precision and recall of one set of boxes, a finding each, with resamples by patient."""

    precision: Bootstrapped
    recall: Bootstrapped
    num_boxes: int


@dataclass(frozen=True)
class Quality:
    """exported: what the file has. unfiltered: all boxes by the rules. num_true: true boxes, in num_images."""

    exported: Rates
    unfiltered: Rates
    num_true: int
    num_images: int

    def metrics(self) -> dict[str, float]:
        """Figures as metrics.json names them."""
        figures: dict[str, float] = {}
        for ending, rates in (("", self.exported), ("_unfiltered", self.unfiltered)):
            figures |= _figures(f"pseudo_precision40{ending}", rates.precision)
            figures |= _figures(f"pseudo_recall40{ending}", rates.recall)
        return figures


def pseudo_quality(
    pseudo: CocoBoxes,
    truth: CocoBoxes | None,
    *,
    dropped: pd.DataFrame | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Quality | None:
    """Compare pseudo-labels with true boxes; None where no training image has a true box of their findings.

    Args:
        truth: boxes of the images that pseudo-labels were asked for, also of those that the export left out.
        dropped: boxes that the export did not write; they count as unfiltered ones.
    """
    if truth is None or truth.without_ignored().boxes.empty:
        return None
    assert truth.findings == pseudo.findings, "findings in one order"
    known = _boxed_images(truth)
    counts = resample_counts(known.groups, num_resamples=num_resamples, seed=seed)
    exported, all_boxes = pseudo.without_ignored().boxes, pseudo.boxes
    if "ignored_by" in all_boxes:
        all_boxes = all_boxes[~pseudo.is_ignored | (all_boxes["ignored_by"] == LOW_CONFIDENCE).to_numpy()]
    if dropped is not None and len(dropped):
        all_boxes = pd.concat([all_boxes[BOX_FIELDS], dropped[BOX_FIELDS]], ignore_index=True)
    return Quality(
        _rates(known, exported, counts),
        _rates(known, all_boxes, counts),
        num_true=len(known.boxes),
        num_images=len(known.images),
    )


def _boxed_images(truth: CocoBoxes) -> CocoBoxes:
    """The images with a true box; no other one counts, and a resample of all images would be large."""
    real = truth.without_ignored()
    there = real.images["image_id"].isin(set(real.boxes["image_id"]))
    return CocoBoxes(real.images[there].reset_index(drop=True), real.boxes, real.findings, real.info)


def _rates(truth: CocoBoxes, boxes: pd.DataFrame, counts: Counts) -> Rates:
    boxes = boxes[boxes["image_id"].isin(set(truth.images["image_id"]))]
    matches = Indexed(truth, truth.with_boxes(boxes)).match((MAIN_IOU,))
    num_true = np.stack([m.num_true for m in matches], axis=1).astype(np.float64)
    judged = num_true > 0
    hits = _sums(matches, [m.hit[0] for m in matches]) * judged
    found = _sums(matches, [np.ones(len(m.image), dtype=bool) for m in matches]) * judged
    precision = share_measure("pseudo_precision40", truth.findings, hits, found)
    recall = share_measure("pseudo_recall40", truth.findings, hits, num_true)
    return Rates(bootstrap(precision, counts), bootstrap(recall, counts), int(found.sum()))


def _sums(matches: Sequence[ClassMatches], counted: Sequence[Bools]) -> Floats:
    """(I, K) detections that count, of each image and class."""
    sums = [np.bincount(m.image[own], minlength=len(m.num_true)) for m, own in zip(matches, counted, strict=True)]
    return np.stack(sums, axis=1).astype(np.float64)


def _figures(name: str, drawn: Bootstrapped) -> dict[str, float]:
    interval = drawn.mean_interval
    figures = {name: drawn.mean, f"{name}/low": interval.low, f"{name}/high": interval.high}
    for finding, value in zip(drawn.findings, drawn.values.tolist(), strict=True):
        own = drawn.interval(finding)
        key = f"{name}/{slug(finding)}"
        figures |= {key: value, f"{key}/low": own.low, f"{key}/high": own.high}
    return figures

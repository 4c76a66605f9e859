"""Reliability of a detector's scores: how well the confidence of a box predicts that the box is correct.

Source: class-wise expected calibration error (Guo et al. 2017, arXiv:1706.04599) over boxes instead of images, as in
Küppers et al., Multivariate Confidence Calibration for Object Detection, CVPR workshops 2020. The many boxes with very
low scores are excluded: they are almost always wrong and would make any detector look calibrated.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cxr.arrays import Bools, Floats
from cxr.coco import CocoBoxes
from eval.detection.confidence import NUM_BINS, with_hits
from eval.detection.operating_points import ALL_FINDINGS
from eval.report.reliability_chart import ReliabilityPanel
from eval.stats.bootstrap import Counts
from eval.stats.calibration import reliability
from eval.stats.measures import Measure

MIN_SCORE = 0.01
"""Boxes with a lower score are excluded from the fit and from the figures."""


def scored_boxes(detections: CocoBoxes, truth: CocoBoxes) -> pd.DataFrame:
    """The boxes of all images with a score of at least `MIN_SCORE`, with a column `hit`; see `with_hits`."""
    boxes = detections.boxes
    return with_hits(boxes[boxes["score"] >= MIN_SCORE], truth, where="all")


def box_ece_measure(scored: pd.DataFrame, confidence: Floats, truth: CocoBoxes, *, pooled: bool) -> Measure:
    """ "ece": mean over boxes of their bin's |share of hits - mean confidence|, in [0, 1]; NaN without boxes.

    There are ten bins of equal width. The bootstrap interval is biased upwards, as for any mean of absolute values.

    Args:
        scored: N boxes with image_id, finding and hit. confidence: (N,) in [0, 1].
        pooled: one column "all findings" instead of one per finding.
    """
    findings = (ALL_FINDINGS,) if pooled else tuple(truth.findings)
    row_of = {image_id: row for row, image_id in enumerate(truth.images["image_id"])}
    image = scored["image_id"].map(row_of).to_numpy(dtype=np.int64)
    in_bin = np.searchsorted(np.linspace(0, 1, NUM_BINS + 1)[1:-1], confidence, side="left")
    apart = scored["hit"].to_numpy(dtype=np.float64) - confidence
    shape = (len(row_of), NUM_BINS)
    sums: list[tuple[Floats, Floats]] = []
    for finding in findings:
        own = np.full(len(scored), True) if pooled else scored["finding"].to_numpy(dtype=object) == finding
        cell = image[own] * NUM_BINS + in_bin[own]
        gaps: Floats = np.bincount(cell, weights=apart[own], minlength=shape[0] * shape[1]).astype(np.float64)
        number = np.bincount(image[own], minlength=shape[0]).astype(np.float64)
        sums.append((gaps.reshape(shape), number))

    def resampled(counts: Counts) -> Floats:
        columns = [(np.abs(counts @ gaps).sum(axis=1), counts @ number) for gaps, number in sums]
        values = [np.where(n > 0, total / np.maximum(n, 1), np.nan) for total, n in columns]
        return np.stack(values, axis=1) if values else np.zeros((len(counts), 0))

    return Measure("ece", findings, resampled)


def reliability_panels(
    scored: pd.DataFrame, confidences: Mapping[str, Floats], findings: Sequence[str]
) -> list[ReliabilityPanel]:
    """All findings together, then each finding that has boxes. confidences: curve -> (N,) confidence of each box."""
    hit, finding = scored["hit"].to_numpy(dtype=np.float64), scored["finding"].to_numpy(dtype=object)

    def panel(title: str, own: Bools) -> ReliabilityPanel:
        curves = {name: reliability(hit[own], values[own], NUM_BINS) for name, values in confidences.items()}
        return ReliabilityPanel(title, curves)

    every = np.full(len(scored), True)
    panels = [panel(ALL_FINDINGS, every)] if len(scored) else []
    return panels + [panel(name, finding == name) for name in findings if (finding == name).any()]

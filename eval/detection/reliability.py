"""How far a detector's scores are what they seem to be: the share of boxes that are right, box by box.

Source: class-wise expected calibration error (Guo et al. 2017, arXiv:1706.04599) over boxes instead of images, as in
Küppers et al., Multivariate Confidence Calibration for Object Detection, CVPR workshops 2020. Boxes of very low scores
are many and always wrong; they would make any detector look calibrated, and are left out.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cxr.arrays import Bools, Floats
from cxr.coco import CocoBoxes
from eval.detection.confidence import NUM_BINS, with_hits
from eval.detection.operating_points import ALL_FINDINGS
from eval.report.charts import ReliabilityPanel
from eval.stats.bootstrap import Counts
from eval.stats.calibration import Reliability, reliability
from eval.stats.measures import Measure

MIN_JUDGED_SCORE = 0.01
"""Boxes of a lower score are not asked how sure they are, neither in a fit nor in a figure."""


def judged_boxes(detections: CocoBoxes, truth: CocoBoxes) -> pd.DataFrame:
    """The boxes of all images with a score of at least `MIN_JUDGED_SCORE`, with a column `hit`; see `with_hits`."""
    boxes = detections.boxes
    return with_hits(boxes[boxes["score"] >= MIN_JUDGED_SCORE], truth, where="all")


def box_ece_measure(judged: pd.DataFrame, confidence: Floats, truth: CocoBoxes, *, pooled: bool) -> Measure:
    """ "ece": mean over boxes of their bin's |share of hits - mean confidence|, in [0, 1]; NaN without boxes.

    Ten bins of equal width, as `eval.stats.calibration.reliability` makes them. As of any mean of absolute values, the
    interval of a resampling leans upwards.

    Args:
        judged: N boxes with image_id, finding and hit. confidence: (N,) in [0, 1].
        pooled: one column "all findings" instead of one a finding.
    """
    findings = (ALL_FINDINGS,) if pooled else tuple(truth.findings)
    row_of = {image_id: row for row, image_id in enumerate(truth.images["image_id"])}
    image = judged["image_id"].map(row_of).to_numpy(dtype=np.int64)
    in_bin = np.searchsorted(np.linspace(0, 1, NUM_BINS + 1)[1:-1], confidence, side="left")
    apart = judged["hit"].to_numpy(dtype=np.float64) - confidence
    shape = (len(row_of), NUM_BINS)
    sums: list[tuple[Floats, Floats]] = []
    for finding in findings:
        own = np.full(len(judged), True) if pooled else judged["finding"].to_numpy(dtype=object) == finding
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
    judged: pd.DataFrame, confidences: Mapping[str, Floats], findings: Sequence[str]
) -> list[ReliabilityPanel]:
    """All findings together, then each finding that has boxes; a curve for each of the confidences (N,) by name."""
    hit, finding = judged["hit"].to_numpy(dtype=np.float64), judged["finding"].to_numpy(dtype=object)

    def panel(title: str, own: Bools) -> ReliabilityPanel:
        curves: dict[str, Reliability] = {
            name: reliability(hit[own], values[own], NUM_BINS) for name, values in confidences.items()
        }
        return ReliabilityPanel(title, curves)

    every = np.full(len(judged), True)
    panels = [panel(ALL_FINDINGS, every)] if len(judged) else []
    return panels + [panel(name, finding == name) for name in findings if (finding == name).any()]

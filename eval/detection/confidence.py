"""Calibrated confidence of a scored box: the probability that it matches a true box, fitted on the tune split.

The curve of a finding is Platt's, sigmoid(scale * logit(score) + offset), with a Gaussian prior around the curve of all
findings together, which steadies findings with few boxes. Curves of pseudo-boxes are fitted on images with a true box
of the finding ("affirmed"), because only those get pseudo-boxes; a detector's on all images ("all").

Source: Platt, Probabilistic outputs for support vector machines, 1999.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.model_selection import GroupKFold

from cxr.arrays import Bools, Floats
from cxr.coco import CocoBoxes
from eval.detection.curves import CLIP, Confidence
from eval.detection.indexed import IndexedDetections
from eval.detection.matching import MAIN_IOU, greedy_hits
from eval.stats.calibration import Curve, Prior, fit_platt, reliability

Where = Literal["affirmed", "all"]
"""Which boxes count: those in images with a true box of their finding, or all."""

START = Prior(Curve(scale=1.0, offset=0.0), scale_sd=10.0, offset_sd=10.0)
"""Prior of the pooled curve: the score is the confidence."""

NUM_BINS = 10


@dataclass(frozen=True)
class ConfidenceFigures:
    """Cross-validated calibration of the confidence, in [0, 1]; NaN with fewer than two patients.

    num_boxes, num_hits: boxes that count, and those that match a true box. brier: mean squared error. brier_constant:
    the same if every box had the share of hits as its confidence. ece: expected calibration error.
    """

    num_boxes: int
    num_hits: int
    brier: float
    brier_constant: float
    ece: float

    def metrics(self) -> dict[str, float]:
        """The figures by their names in metrics.json."""
        return {"confidence_brier": self.brier, "confidence_ece": self.ece}


def with_hits(
    detections: pd.DataFrame, truth: CocoBoxes, *, iou: float = MAIN_IOU, where: Where = "affirmed"
) -> pd.DataFrame:
    """The detections that count, with a column `hit`: true where one is matched to a true box.

    Detections match as for AP, so a second box on the same true box is no hit, and a detection that hits nothing and
    has at least `iou` of its area inside an ignore region does not count.
    """
    found = detections.reset_index(drop=True)
    boxes = IndexedDetections(truth, truth.with_boxes(found))
    num_classes = len(boxes.true.findings)
    hit, ignored = np.zeros((2, len(found)), dtype=bool)
    for k, (own, true) in enumerate(zip(boxes.by_class, boxes.true.by_class, strict=True)):
        order = own.order(max_detections=len(found))
        rows = np.flatnonzero(boxes.cell % num_classes == k)[order]
        (hit[rows],), (ignored[rows],) = greedy_hits(own.ranked(len(found)), true, ious=(iou,))
    counted = (where == "all") | (boxes.true.num_true.ravel()[boxes.cell] > 0)
    return found.assign(hit=hit)[counted & ~ignored].reset_index(drop=True)


def fit_confidence(
    detections: pd.DataFrame, truth: CocoBoxes, *, iou: float = MAIN_IOU, where: Where = "affirmed"
) -> Confidence:
    """Fit the curves on boxes of the tune split that were made without using the true boxes of their image."""
    return _fit(with_hits(detections, truth, iou=iou, where=where))


def confidence_figures(
    detections: pd.DataFrame, truth: CocoBoxes, *, iou: float = MAIN_IOU, num_folds: int = 5
) -> ConfidenceFigures:
    """Cross-validate `fit_confidence` on the tune split; all boxes of a patient are in one fold."""
    scored = with_hits(detections, truth, iou=iou)
    group_of = dict(zip(truth.images["image_id"], truth.groups, strict=True))
    groups = scored["image_id"].map(group_of).to_numpy(dtype=object)
    num_folds = min(num_folds, len(set(groups.tolist())))
    hits = scored["hit"].to_numpy(dtype=np.float64)
    if num_folds < 2:
        return ConfidenceFigures(len(hits), int(hits.sum()), *[float("nan")] * 3)
    confidence = np.zeros(len(hits))
    for fitted, held in GroupKFold(num_folds).split(hits, groups=groups):
        confidence[held] = _fit(scored.iloc[fitted]).of(scored.iloc[held])
    return ConfidenceFigures(
        num_boxes=len(hits),
        num_hits=int(hits.sum()),
        brier=float(np.mean((confidence - hits) ** 2)),
        brier_constant=float(np.var(hits)),
        ece=reliability(hits, confidence, NUM_BINS).expected_error,
    )


def _fit(scored: pd.DataFrame) -> Confidence:
    scores, hits = scored["score"].to_numpy(dtype=np.float64), scored["hit"].to_numpy(dtype=bool)
    findings = scored["finding"].to_numpy(dtype=object)
    pooled = fit_curve(scores, hits, START)
    own = {str(name): findings == name for name in dict.fromkeys(findings.tolist())}
    prior = finding_prior(pooled)
    return Confidence(pooled, {name: fit_curve(scores[rows], hits[rows], prior) for name, rows in own.items()})


def finding_prior(pooled: Curve) -> Prior:
    """Prior of a single finding: the curve of all findings."""
    return Prior(pooled, scale_sd=1.0, offset_sd=2.0)


def fit_curve(scores: Floats, hits: Bools, prior: Prior) -> Curve:
    """The curve of one finding: the posterior mode, with a scale of at least 0; the prior's mean without a score.

    scores: (N,) in [0, 1]. hits: (N,).
    """
    if not len(scores):
        return prior.mean
    logits = logit(np.clip(scores, CLIP, 1 - CLIP))
    scale, offset = fit_platt(logits, hits.astype(np.float64), prior=prior)
    return Curve(scale=scale, offset=offset)

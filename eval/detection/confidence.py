"""Calibrated confidence of a scored box: the chance that it pairs off with a true box, learnt on the tune split.

Of which images: a pseudo-box is only made where the label affirms its finding, so that its curve is fitted on images
that have a true box of the finding ("affirmed"); a detector's boxes are judged in all images ("all"). A finding's curve
is Platt's (Probabilistic outputs for support vector machines, 1999), sigmoid(scale * logit(score) + offset), drawn
towards the curve of all findings together by Gaussian priors, so that a finding with few boxes leans on the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.model_selection import GroupKFold

from cxr.arrays import Bools, Floats
from cxr.boxes import CORNERS, iobb_matrix, iou_matrix
from cxr.coco import CocoBoxes
from cxr.config import UserError
from eval.stats.calibration import Curve, reliability

Where = Literal["affirmed", "all"]
"""Whose boxes are judged: of images that have a true box of the finding, or of all images."""

HIT_IOU = 0.4

START = Curve(scale=1.0, offset=0.0)
"""What is believed before any box is seen: the score is the confidence."""

POOLED_SD = (10.0, 10.0)
FINDING_SD = (1.0, 2.0)
"""How far scale and offset may lie from START (all findings together) and from there (one finding)."""

CLIP = 1e-6
"""Scores are kept this far from 0 and 1, so that no single box outweighs all others."""

NUM_BINS = 10


@dataclass(frozen=True)
class Confidence:
    """Curves from score to confidence: `pooled` for a finding that has none in `by_finding`."""

    pooled: Curve
    by_finding: Mapping[str, Curve]

    def of(self, boxes: pd.DataFrame) -> Floats:
        """(N,) in [0, 1] of a table with finding and score in [0, 1]; does not fall as the score of a finding rises.
        NaN for a score that is not a number."""
        scores = np.clip(boxes["score"].to_numpy(dtype=np.float64), CLIP, 1 - CLIP)
        findings = boxes["finding"].to_numpy(dtype=object)
        confidence = np.zeros(len(scores))
        for finding in set(findings.tolist()):
            own = findings == finding
            confidence[own] = self.by_finding.get(finding, self.pooled).apply(scores[own])
        return confidence

    def score_at(self, finding: str, confidence: float) -> float:
        """The lowest score whose confidence is at least `confidence`, in [0, 1]; infinite where no score reaches it."""
        curve = self.by_finding.get(finding, self.pooled)
        ends = curve.apply(np.array([CLIP, 1 - CLIP]))
        if ends[0] >= confidence:
            return 0.0
        if ends[1] < confidence:
            return float("inf")
        return float(expit((logit(confidence) - curve.offset) / curve.scale))

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` gives exactly these curves back."""
        by_finding = {name: _plain(curve) for name, curve in self.by_finding.items()}
        return {"pooled": _plain(self.pooled), "by_finding": by_finding}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> "Confidence":
        """From what `as_dict` gave; UserError for anything else."""
        try:
            by_finding = {str(name): _curve(fields) for name, fields in entry["by_finding"].items()}
            return cls(_curve(entry["pooled"]), by_finding)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"score curves: damaged ({error!r}); give the command of the run again") from None


def _plain(curve: Curve) -> dict[str, float]:
    return {"scale": curve.scale, "offset": curve.offset}


def _curve(fields: Mapping[str, Any]) -> Curve:
    return Curve(scale=float(fields["scale"]), offset=float(fields["offset"]))


@dataclass(frozen=True)
class ConfidenceFigures:
    """How well calibrated the confidence is, each box judged by curves fitted without its patient's fold.

    num_boxes, num_hits: boxes judged, and those paired off with a true box. brier: mean squared error, in [0, 1].
    brier_constant: the same when every box has the share of hits. ece: expected calibration error, in [0, 1]. NaN
    without boxes, or of fewer than two patients.
    """

    num_boxes: int
    num_hits: int
    brier: float
    brier_constant: float
    ece: float

    def metrics(self) -> dict[str, float]:
        """Figures as metrics.json names them."""
        return {"confidence_brier": self.brier, "confidence_ece": self.ece}


def with_hits(
    detections: pd.DataFrame, truth: CocoBoxes, *, iou: float = HIT_IOU, where: Where = "affirmed"
) -> pd.DataFrame:
    """The detections that are judged, with a column `hit`: true where one pairs off with a true box.

    By an IoU of at least `iou`, the best score first, so that a second box on the same true box is no hit. What is no
    hit and lies with a share of at least `iou` of itself in an ignore region of its finding is not judged.

    where: "affirmed": the detections in images that have a true box of their finding. "all": in all images.
    """
    real, regions = _corners_of(truth.without_ignored().boxes), _corners_of(truth.boxes[truth.is_ignored])
    found = detections.reset_index(drop=True)
    corners, scores = found[CORNERS].to_numpy(dtype=np.float64), found["score"].to_numpy(dtype=np.float64)
    judged, hit = np.full(len(found), where == "all"), np.zeros(len(found), dtype=bool)
    for key, rows in found.groupby(_KEY, sort=False).indices.items():
        if key in real:
            ranked = rows[np.argsort(-scores[rows], kind="stable")]
            judged[ranked] = True
            hit[ranked] = _paired(iou_matrix(corners[ranked], real[key]), iou)
        if key in regions:
            inside = (iobb_matrix(corners[rows], regions[key]) >= iou).any(axis=1)
            judged[rows[inside & ~hit[rows]]] = False
    return found.assign(hit=hit)[judged].reset_index(drop=True)


def _corners_of(boxes: pd.DataFrame) -> dict[Any, Floats]:
    """(image, finding) -> (G, 4)."""
    return {key: part[CORNERS].to_numpy(dtype=np.float64) for key, part in boxes.groupby(_KEY, sort=False)}


def _paired(overlaps: Floats, iou: float) -> Bools:
    """(D, G) overlaps, the best detection first -> (D,) whether it takes the free true box that it overlaps most."""
    free, paired = np.ones(overlaps.shape[1], dtype=bool), np.zeros(len(overlaps), dtype=bool)
    for row, overlap in enumerate(overlaps):
        nearest = int(np.argmax(np.where(free, overlap, -1.0)))
        paired[row] = free[nearest] and overlap[nearest] >= iou
        free[nearest] &= not paired[row]
    return paired


_KEY = ["image_id", "finding"]


def fit_confidence(
    detections: pd.DataFrame, truth: CocoBoxes, *, iou: float = HIT_IOU, where: Where = "affirmed"
) -> Confidence:
    """Learn the curves on the tune split.

    Args:
        detections: boxes with scores of the tune split, made without use of the image's own true boxes.
        truth: its true boxes; ignore regions count as nothing.
        where: whose boxes count, see `with_hits`.
    """
    return _fit(with_hits(detections, truth, iou=iou, where=where))


def confidence_figures(
    detections: pd.DataFrame, truth: CocoBoxes, *, iou: float = HIT_IOU, num_folds: int = 5
) -> ConfidenceFigures:
    """Cross-validate `fit_confidence` on the tune split, patients kept together."""
    judged = with_hits(detections, truth, iou=iou)
    group_of = dict(zip(truth.images["image_id"], truth.groups, strict=True))
    groups = judged["image_id"].map(group_of).to_numpy(dtype=object)
    num_folds = min(num_folds, len(set(groups.tolist())))
    hits = judged["hit"].to_numpy(dtype=np.float64)
    if num_folds < 2:
        return ConfidenceFigures(len(hits), int(hits.sum()), *[float("nan")] * 3)
    confidence = np.zeros(len(hits))
    for fitted, held in GroupKFold(num_folds).split(hits, groups=groups):
        confidence[held] = _fit(judged.iloc[fitted]).of(judged.iloc[held])
    return ConfidenceFigures(
        num_boxes=len(hits),
        num_hits=int(hits.sum()),
        brier=float(np.mean((confidence - hits) ** 2)),
        brier_constant=float(np.var(hits)),
        ece=reliability(hits, confidence, NUM_BINS).expected_error,
    )


def _fit(judged: pd.DataFrame) -> Confidence:
    scores = judged["score"].to_numpy(dtype=np.float64)
    hits = judged["hit"].to_numpy(dtype=bool)
    findings = judged["finding"].to_numpy(dtype=object)
    pooled = fit_curve(scores, hits, prior=START, sd=POOLED_SD)
    own = {str(name): findings == name for name in dict.fromkeys(findings.tolist())}
    return Confidence(
        pooled,
        {name: fit_curve(scores[row], hits[row], prior=pooled, sd=FINDING_SD) for name, row in own.items()},
    )


def fit_curve(scores: Floats, hits: Bools, *, prior: Curve, sd: tuple[float, float]) -> Curve:
    """Scale (not below 0, so that the curve does not fall) and offset of the greatest posterior density.

    Args:
        scores: (N,) in [0, 1]. hits: (N,).
        prior: the means of the Gaussian priors; the curve itself where there is no score.
        sd: their standard deviations, of scale and offset.
    """
    logits = logit(np.clip(scores, CLIP, 1 - CLIP))
    mean, precision = np.array([prior.scale, prior.offset]), 1 / np.square(sd)

    def loss(coefficients: Floats) -> tuple[float, Floats]:
        outputs = coefficients[0] * logits + coefficients[1]
        apart = coefficients - mean
        total = np.sum(np.logaddexp(0, outputs) - hits * outputs) + np.sum(precision * apart**2) / 2
        errors = expit(outputs) - hits
        return float(total), np.array([errors @ logits, errors.sum()]) + precision * apart

    options = {"ftol": 1e-14, "gtol": 1e-8, "maxiter": 1000}
    found = minimize(
        loss, mean, jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)], options=options
    )
    return Curve(scale=float(found.x[0]), offset=float(found.x[1]))

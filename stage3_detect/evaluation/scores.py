"""What the scores of the detector mean: operating points and calibration, chosen on tune and evaluated on test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cxr.arrays import Floats
from cxr.coco import CocoBoxes
from eval.detection.confidence import fit_confidence
from eval.detection.curves import Confidence
from eval.detection.indexed import IndexedDetections
from eval.detection.matching import MAIN_IOU
from eval.detection.operating_points import choose_points, count_at
from eval.detection.points import OperatingPoint, default_point
from eval.detection.reliability import MIN_SCORE, box_ece_measure, reliability_panels, scored_boxes
from eval.report.reliability_chart import ReliabilityPanel
from eval.stats.bootstrap import Counts
from eval.stats.measures import Bootstrapped, bootstrap, bootstrap_figures, interval_figures

RAW, CALIBRATED = "score", "calibrated confidence"


@dataclass(frozen=True, eq=False)
class PointResult:
    """Measures of an operating point on the test split by name: pooled over all findings, and per finding."""

    point: OperatingPoint
    pooled: Mapping[str, Bootstrapped]
    by_finding: Mapping[str, Bootstrapped]


@dataclass(frozen=True, eq=False)
class ScoreResults:
    """Operating points and calibration.

    why_none: why nothing was chosen, "" if it was; otherwise `confidence` is None and there are no points.
    ece: expected calibration error on the test split for `RAW` and (where fitted) `CALIBRATED`, each pooled over all
    findings and per finding. num_scored: number of boxes it covers. panels: reliability diagrams of the test split.
    """

    why_none: str
    confidence: Confidence | None
    points: Sequence[PointResult]
    ece: Mapping[str, tuple[Bootstrapped, Bootstrapped]]
    num_scored: int
    panels: Sequence[ReliabilityPanel] = field(default_factory=tuple)

    def point(self, name: str) -> OperatingPoint | None:
        """The point of this name; None if it was not chosen."""
        return next((found.point for found in self.points if found.point.name == name), None)

    @property
    def default_point(self) -> OperatingPoint | None:
        """The point by which `predict.py` and the service show boxes; None if none was chosen."""
        return default_point({found.point.name: found.point for found in self.points})

    @property
    def metrics(self) -> dict[str, float]:
        """``<measure>/<point>``, pooled over all findings, and ``<measure>/<point>/<finding>``; ``ece/detector`` and
        ``ece/detector_calibrated``; each with the ends of its interval."""
        figures: dict[str, float] = {}
        for found in self.points:
            for name, scored in found.by_finding.items():
                figures |= bootstrap_figures(f"{name}/{found.point.name}", scored)
            for name, scored in found.pooled.items():  # instead of the mean over findings
                figures |= interval_figures(f"{name}/{found.point.name}", scored.mean, scored.mean_interval)
        for kind, (pooled, by_finding) in self.ece.items():
            name = "detector" if kind == RAW else "detector_calibrated"
            figures |= bootstrap_figures(f"ece/{name}", by_finding)
            figures |= interval_figures(f"ece/{name}", pooled.mean, pooled.mean_interval)
        return figures


def evaluate_scores(
    detections: CocoBoxes, truth: CocoBoxes, counts: Counts, *, tune: tuple[CocoBoxes, CocoBoxes] | None
) -> ScoreResults:
    """Choose on the tune split, evaluate on the test split.

    Args:
        detections, truth: of the test split. counts: (R, I) its resamples.
        tune: detections and true boxes of the tune images that were not trained on.
    """
    why_none = _why_none(tune)
    confidence: Confidence | None = None
    points: list[PointResult] = []
    if tune is not None and not why_none:
        found, real = tune
        strong = found.boxes[found.boxes["score"] >= MIN_SCORE]
        confidence = fit_confidence(strong, real, where="all")
        chosen = choose_points(IndexedDetections(real, found).match((MAIN_IOU,)), confidence)
        points = _evaluate_points(chosen, detections, truth, counts)
    scored = scored_boxes(detections, truth)
    values: dict[str, Floats] = {RAW: scored["score"].to_numpy(dtype=np.float64)}
    if confidence is not None:
        values[CALIBRATED] = confidence.of(scored)
    ece = {kind: _calibration_error(scored, own, truth, counts) for kind, own in values.items()}
    panels = reliability_panels(scored, values, truth.findings)
    return ScoreResults(why_none, confidence, points, ece, len(scored), panels)


def _calibration_error(
    scored: pd.DataFrame, confidence: Floats, truth: CocoBoxes, counts: Counts
) -> tuple[Bootstrapped, Bootstrapped]:
    """Pooled over all boxes, and per finding."""
    pooled, by_finding = (
        bootstrap(box_ece_measure(scored, confidence, truth, pooled=pooled), counts) for pooled in (True, False)
    )
    return pooled, by_finding


def _why_none(tune: tuple[CocoBoxes, CocoBoxes] | None) -> str:
    if tune is None or not len(tune[1].images):
        return "no image of the tune split is left to choose on"
    if not len(tune[1].without_ignored().boxes):
        return "the tune images that are left have no true box"
    return ""


def _evaluate_points(
    points: Sequence[OperatingPoint], detections: CocoBoxes, truth: CocoBoxes, counts: Counts
) -> list[PointResult]:
    matches = IndexedDetections(truth, detections).match((MAIN_IOU,))
    results = []
    for point in points:
        own = count_at(point, matches, len(truth.images))
        pooled, by_finding = (
            {measure.name: bootstrap(measure, counts) for measure in part.measures()} for part in (own.pooled(), own)
        )
        results.append(PointResult(point, pooled, by_finding))
    return results

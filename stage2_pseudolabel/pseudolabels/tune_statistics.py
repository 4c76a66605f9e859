"""What boxes of the tune split say about pseudo-boxes: how likely a box with a given score is correct."""

from dataclasses import dataclass

import numpy as np

from cxr.coco import CocoBoxes
from eval.detection.confidence import ConfidenceFigures, confidence_figures, fit_confidence
from eval.detection.curves import Confidence
from eval.detection.measures import positive_pairs
from stage2_pseudolabel.cam_maps.store import SplitMaps
from stage2_pseudolabel.pseudolabels.box_predictors import BoxPredictors


@dataclass(frozen=True)
class TuneStatistics:
    """confidence: turns a score into the probability of a hit. calibration: how well that works."""

    confidence: Confidence
    calibration: ConfidenceFigures


def tune_statistics(predictors: BoxPredictors, scored: SplitMaps, truth: CocoBoxes) -> TuneStatistics:
    """Predict boxes on the tune split as on the training images, and compare them with the true boxes.

    The rules do not use the true boxes of the same patient.

    Args:
        scored: maps and probabilities of the tune split; images and findings in the order of `truth`.
    """
    assert predictors.findings == truth.findings, "findings in the order of the truth"
    bad = {item.what for item in scored.bad}
    wanted = np.zeros((len(truth.images), len(truth.findings)), dtype=bool)
    for row, column in positive_pairs(truth):
        wanted[row, column] = truth.images["image_id"].iloc[row] not in bad
    found = predictors.boxes(scored, truth.images, wanted=wanted, patients=truth.groups)
    real = truth.without_ignored()
    return TuneStatistics(fit_confidence(found, real), confidence_figures(found, real))

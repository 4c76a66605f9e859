"""What the tune split says about boxes that the training split has no truth for."""

from dataclasses import dataclass

import numpy as np

from cxr.arrays import Bools
from cxr.coco import CocoBoxes
from eval.detection.confidence import Confidence, ConfidenceFigures, confidence_figures, fit_confidence
from stage2_pseudolabel.cam_maps.store import SplitMaps
from stage2_pseudolabel.pseudolabels.makers import BoxMakers


@dataclass(frozen=True)
class TuneFacts:
    """confidence: score to chance of a hit. calibration: how good that is."""

    confidence: Confidence
    calibration: ConfidenceFigures


def learn_from_tune(makers: BoxMakers, scored: SplitMaps, truth: CocoBoxes) -> TuneFacts:
    """Make boxes in the tune split as in the training images, without the patient's own true boxes, and judge them.

    Args:
        makers: what makes the pseudo-boxes.
        scored: maps and probabilities of the tune split; images and findings in the order of `truth`.
    """
    assert makers.findings == truth.findings, "findings in the order of the truth"
    real = truth.without_ignored()
    bad = {item.what for item in scored.bad}
    wanted = has_box(real) & ~truth.images["image_id"].isin(bad).to_numpy()[:, None]
    found = makers.boxes(scored, truth.images, wanted=wanted, owners=truth.groups)
    return TuneFacts(fit_confidence(found, real), confidence_figures(found, real))


def has_box(truth: CocoBoxes) -> Bools:
    """(N, K): the image has a box of the finding."""
    row_of = {image_id: row for row, image_id in enumerate(truth.images["image_id"])}
    column_of = {name: column for column, name in enumerate(truth.findings)}
    there = np.zeros((len(row_of), len(column_of)), dtype=bool)
    rows = truth.boxes["image_id"].map(row_of).to_numpy(dtype=np.int64)
    there[rows, truth.boxes["finding"].map(column_of).to_numpy(dtype=np.int64)] = True
    return there

"""What the tune split says about boxes that the training split has no truth for."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cxr.arrays import Bools
from cxr.coco import CocoBoxes
from cxr.imaging.pictures import Pictures
from eval.detection.confidence import (
    Confidence,
    ConfidenceFigures,
    confidence_figures,
    fit_confidence,
)
from stage2_pseudolabel.boxes.map_geometry import Boxes
from stage2_pseudolabel.cam_maps.store import SplitMaps
from stage2_pseudolabel.pseudolabels.makers import BoxMakers, map_shares


@dataclass(frozen=True)
class TuneFacts:
    """confidence: score to chance of a hit. calibration: how good that is. places: finding -> (M, 4) true boxes of the
    tune split in shares of the map."""

    confidence: Confidence
    calibration: ConfidenceFigures
    places: Mapping[str, Boxes]


def learn_from_tune(
    makers: BoxMakers, scored: SplitMaps, truth: CocoBoxes, *, pictures: Pictures | None = None
) -> TuneFacts:
    """Make boxes in the tune split as in the training images, without the patient's own true boxes, and judge them.

    Args:
        makers: what makes the pseudo-boxes.
        scored: maps and probabilities of the tune split; images and findings in the order of `truth`.
        pictures: of the same images, for rules that fit boxes to them.
    """
    assert makers.findings == truth.findings, "findings in the order of the truth"
    real = truth.without_ignored()
    bad = {item.what for item in scored.bad}
    wanted = has_box(real) & ~truth.images["image_id"].isin(bad).to_numpy()[:, None]
    found = makers.boxes(scored, truth.images, wanted=wanted, owners=truth.groups, pictures=pictures)
    shares = map_shares(real.boxes, real.images, makers.frame)
    finding = real.boxes["finding"].to_numpy(dtype=object)
    places = {name: shares[finding == name] for name in truth.findings}
    return TuneFacts(fit_confidence(found, real), confidence_figures(found, real), places)


def has_box(truth: CocoBoxes) -> Bools:
    """(N, K): the image has a box of the finding."""
    row_of = {image_id: row for row, image_id in enumerate(truth.images["image_id"])}
    column_of = {name: column for column, name in enumerate(truth.findings)}
    there = np.zeros((len(row_of), len(column_of)), dtype=bool)
    rows = truth.boxes["image_id"].map(row_of).to_numpy(dtype=np.int64)
    there[rows, truth.boxes["finding"].map(column_of).to_numpy(dtype=np.int64)] = True
    return there

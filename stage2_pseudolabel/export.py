"""Pseudo-labels: boxes of the best method in the training images, only for findings that the label affirms."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.coco import CocoBoxes, boxes_table
from cxr.datasets.tables import Dataset, Exclusion
from stage2_pseudolabel.leaderboard import Entry
from stage2_pseudolabel.maps import SplitMaps
from stage2_pseudolabel.truth import image_sizes, info
from stage2_pseudolabel.tuning import Frame

POSITIVE, UNCERTAIN = 1, -1


@dataclass(frozen=True)
class PseudoLabels:
    """Boxes of the training images; images that could teach something false are left out, named, with the reason."""

    coco: CocoBoxes
    excluded: tuple[Exclusion, ...]


def pseudo_labels(
    train: Dataset,
    scored: SplitMaps,
    best: Entry,
    *,
    frame: Frame,
    min_probability: float,
) -> PseudoLabels:
    """Label-conditioned boxes, score = probability x evidence; images that the label calls normal have none.

    Args:
        scored: maps by the best method and probabilities of the images of `train`, findings in the entry's order.
        best: the chosen method with its rules.
    """
    findings = best.result.findings
    maps, probabilities = scored.maps[best.name], scored.probabilities
    labels = train.labels[list(findings)].to_numpy()
    images = image_sizes(train)
    rows: list[tuple[object, ...]] = []
    excluded: list[Exclusion] = []
    for index, (image_id, width, height) in enumerate(
        images[["image_id", "width", "height"]].to_numpy().tolist()
    ):
        affirmed = np.flatnonzero(labels[index] == POSITIVE)
        reason = _reason_against(labels[index], probabilities[index], min_probability)
        boxes = [best.rules[column].boxes(maps[index, column]) for column in affirmed]
        if not reason and any(len(corners) == 0 for corners, _ in boxes):
            reason = "a finding that the label affirms has no box by the rule"
        if reason:
            excluded.append(Exclusion(image_id, reason))
            continue
        for column, (corners, evidence) in zip(affirmed, boxes, strict=True):
            scores = probabilities[index, column] * evidence
            pixels = frame.to_image(corners, (height, width))
            rows += [(image_id, findings[column], *box, s) for box, s in zip(pixels, scores, strict=True)]
    left_out = {item.what for item in excluded}
    kept = images[~images["image_id"].isin(left_out)].reset_index(drop=True)
    coco = CocoBoxes(kept, boxes_table(rows), tuple(findings), info(train, "train"))
    return PseudoLabels(coco, tuple(excluded))


def _reason_against(
    labels: npt.NDArray[np.float64], probabilities: npt.NDArray[np.float64], min_probability: float
) -> str:
    affirmed = labels == POSITIVE
    if (labels == UNCERTAIN).any() and not affirmed.any():
        return "uncertain findings only: neither positive nor normal"
    if (probabilities[affirmed] < min_probability).any():
        return "the classifier does not see a finding that the label affirms"
    return ""


def box_statistics(coco: CocoBoxes) -> pd.DataFrame:
    """Boxes, images and median area (share of the image) of each finding."""
    sizes = coco.images.set_index("image_id")[["width", "height"]].prod(axis=1)
    boxes = coco.boxes
    share = (
        (boxes["x2"] - boxes["x1"]) * (boxes["y2"] - boxes["y1"]) / boxes["image_id"].map(sizes).astype(float)
    )
    rows = [
        (
            finding,
            int((boxes["finding"] == finding).sum()),
            int(boxes.loc[boxes["finding"] == finding, "image_id"].nunique()),
            float(share[boxes["finding"] == finding].median()),
        )
        for finding in coco.findings
    ]
    return pd.DataFrame(rows, columns=["finding", "boxes", "images", "median_area"])

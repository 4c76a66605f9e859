"""Pseudo-labels: boxes of the chosen method in the training images, only for findings that the label affirms.

Boxes of uncertain labels and boxes below the minimum confidence become ignore regions (iscrowd 1), so that the detector
learns neither that there is a finding nor that there is none. If the rule gives no box for an uncertain finding, the
whole image is an ignore region of it. If it gives none for an affirmed finding, the image is excluded, because the
detector would treat it as an image without the finding.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cxr.arrays import Bools, Floats, Ints
from cxr.coco import IMAGE_FIELDS, CocoBoxes, boxes_table
from cxr.labels import COMPATIBLE_WITH_NO_FINDING, NO_FINDING
from cxr.runs.provenance import code_state
from cxr.tables import Dataset, Exclusion
from eval.detection.confidence import ConfidenceFigures
from stage2_pseudolabel.boxes.truth import image_sizes, info
from stage2_pseudolabel.cam_maps.store import SplitMaps
from stage2_pseudolabel.pseudolabels.box_predictors import BoxPredictors
from stage2_pseudolabel.pseudolabels.report_places import PlaceGate
from stage2_pseudolabel.pseudolabels.tune_statistics import TuneStatistics
from stage2_pseudolabel.settings.pseudolabels import PseudoLabelSettings

POSITIVE, NEGATIVE, UNCERTAIN = 1, 0, -1

UNCERTAIN_LABEL = "uncertain label"
UNCERTAIN_WITHOUT_BOX = "uncertain label, no box by the rule"
LOW_CONFIDENCE = "low confidence"
"""Why a box is an ignore region, in `ignored_by`."""

NOT_SEEN = "the classifier does not see a finding that the label affirms"
NO_BOX = "a finding that the label affirms has no box by the rule"
"""Why an image is excluded."""


@dataclass(frozen=True)
class PseudoLabels:
    """Boxes and ignore regions of the training images.

    coco: what stage 3 loads. excluded: images that stage 3 does not get, each with its reason.
    dropped: boxes below `min_confidence_further` in images that have a better box of the finding.
    calibration: of the confidence, on the tune split.
    """

    coco: CocoBoxes
    excluded: tuple[Exclusion, ...]
    dropped: pd.DataFrame
    calibration: ConfidenceFigures

    @property
    def ignored(self) -> dict[str, int]:
        """Number of ignore regions by reason, the most frequent first."""
        if "ignored_by" not in self.coco.boxes:
            return {}
        reasons = self.coco.boxes.loc[self.coco.is_ignored, "ignored_by"]
        return {str(reason): int(count) for reason, count in reasons.value_counts().items()}


def make_pseudo_labels(
    train: Dataset,
    scored: SplitMaps,
    predictors: BoxPredictors,
    *,
    statistics: TuneStatistics,
    settings: PseudoLabelSettings,
    gate: PlaceGate | None = None,
) -> PseudoLabels:
    """Predict boxes with score, confidence and method. Images with a normal label stay, without boxes.

    Args:
        scored: maps and probabilities of the images of `train`; columns in the order of the predictors' findings.
        gate: places of findings from reports.
    """
    labels = train.labels[list(predictors.findings)].to_numpy(dtype=np.float64)
    images = _LabelledImages(_image_rows(train, scored), labels, scored, predictors.findings)
    found = predictors.boxes(scored, images.table, wanted=images.are(POSITIVE) | images.are(UNCERTAIN), gate=gate)
    excluded = _exclusions(images, found, settings)
    out = {item.what for item in excluded}
    found = found.assign(confidence=statistics.confidence.of(found))
    kept, dropped = _filtered(images, found[~found["image_id"].isin(out)], settings)
    boxes = pd.concat([kept, _uncertain_without_box(images, found, out)], ignore_index=True)
    rows, columns = images.cells(boxes)
    boxes = boxes.iloc[np.lexsort((columns, rows))].reset_index(drop=True)
    table = images.table.assign(labels=_label_dicts(images, train.labels))
    table = table[~table["image_id"].isin(out)].reset_index(drop=True)
    source = info(train, "train") | {"made_by": _provenance(predictors, settings)}
    return PseudoLabels(CocoBoxes(table, boxes, predictors.findings, source), excluded, dropped, statistics.calibration)


@dataclass(frozen=True)
class _LabelledImages:
    """The N training images with their labels (N, K), maps and probabilities."""

    table: pd.DataFrame
    labels: Floats
    scored: SplitMaps
    findings: tuple[str, ...]

    def are(self, label: int) -> Bools:
        """(N, K): the finding has this label; false for images without maps."""
        bad = [item.what for item in self.scored.bad]
        usable = ~self.table["image_id"].isin(bad).to_numpy(dtype=bool)[:, None]
        return np.asarray((self.labels == label) & usable)

    def cells(self, boxes: pd.DataFrame) -> tuple[Ints, Ints]:
        """Row and column of each box."""
        row_of = {image_id: row for row, image_id in enumerate(self.table["image_id"])}
        column_of = {name: column for column, name in enumerate(self.findings)}
        rows = np.array([row_of[image_id] for image_id in boxes["image_id"]], dtype=np.int64)
        return rows, np.array([column_of[name] for name in boxes["finding"]], dtype=np.int64)


def _image_rows(train: Dataset, scored: SplitMaps) -> pd.DataFrame:
    """The images with their sizes, 0 where the image cannot be used."""
    bad = {item.what for item in scored.bad}
    known = image_sizes(train.select(image_id for image_id in train.images["image_id"] if image_id not in bad))
    images = train.images[["image_id", "path", "region", "patient_id"]].merge(
        known[["image_id", "width", "height"]], on="image_id", how="left", validate="one_to_one"
    )
    images[["width", "height"]] = images[["width", "height"]].fillna(0).astype(np.int64)
    return images[[*IMAGE_FIELDS, "patient_id"]]


def _label_dicts(images: _LabelledImages, labels: pd.DataFrame) -> "pd.Series[Any]":
    """A dict finding -> 1, 0, -1 or None per image. With "No Finding", findings that are not mentioned are 0."""
    normal = np.zeros((len(labels), 1), dtype=bool)
    if NO_FINDING in labels:
        normal = labels[[NO_FINDING]].to_numpy(dtype=np.float64) == POSITIVE
    ruled_out = normal & np.array([name not in COMPATIBLE_WITH_NO_FINDING for name in images.findings])
    values = np.where(np.isnan(images.labels) & ruled_out, NEGATIVE, images.labels)
    rows = [
        {name: None if np.isnan(v) else int(v) for name, v in zip(images.findings, row, strict=True)}
        for row in values.tolist()
    ]
    return pd.Series(rows, dtype=object)


def _exclusions(images: _LabelledImages, found: pd.DataFrame, settings: PseudoLabelSettings) -> tuple[Exclusion, ...]:
    """The excluded images in their order, each with the first of its reasons."""
    affirmed = images.are(POSITIVE)
    with_box = np.zeros_like(affirmed)
    with_box[images.cells(found)] = True
    not_seen = np.any(affirmed & (images.scored.probabilities < settings.min_probability), axis=1)
    no_box = np.any(affirmed & ~with_box, axis=1)
    bad = {item.what: item.reason for item in images.scored.bad}
    excluded = []
    for row, image_id in enumerate(images.table["image_id"]):
        reason = bad.get(image_id) or (NOT_SEEN if not_seen[row] else NO_BOX if no_box[row] else "")
        if reason:
            excluded.append(Exclusion(image_id, reason))
    return tuple(excluded)


def _filtered(
    images: _LabelledImages, found: pd.DataFrame, settings: PseudoLabelSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The exported boxes with iscrowd and ignored_by, and the dropped boxes of affirmed findings."""
    drop = further_below_confidence(found, settings.min_confidence_further)
    boxes, dropped = found[~drop].reset_index(drop=True), found[drop].reset_index(drop=True)
    dropped = dropped[images.are(POSITIVE)[images.cells(dropped)]].reset_index(drop=True)
    low = np.where(boxes["confidence"] < settings.min_confidence, LOW_CONFIDENCE, "")
    reason = np.where(images.are(UNCERTAIN)[images.cells(boxes)], UNCERTAIN_LABEL, low).astype(object)
    return boxes.assign(iscrowd=(reason != "").astype(np.int64), ignored_by=reason), dropped


def further_below_confidence(boxes: pd.DataFrame, minimum: float) -> Bools:
    """(N,): the confidence is below `minimum` and the image has a box of the finding with a higher score.

    On ties, the first box counts as higher. boxes: table with image_id, finding, score and confidence.
    """
    place = boxes.groupby(["image_id", "finding"])["score"].rank(ascending=False, method="first")
    return np.asarray((place.to_numpy(dtype=np.float64) > 1) & (boxes["confidence"] < minimum).to_numpy(dtype=bool))


def _uncertain_without_box(images: _LabelledImages, found: pd.DataFrame, excluded: set[str]) -> pd.DataFrame:
    """An ignore region of the whole image for each uncertain finding without a box."""
    boxless = images.are(UNCERTAIN)
    boxless[images.cells(found)] = False
    boxless[images.table["image_id"].isin(excluded).to_numpy()] = False
    rows, columns = np.nonzero(boxless)
    chosen, nan = images.table.iloc[rows], float("nan")
    names = np.array(images.findings, dtype=object)[columns]
    cells = zip(chosen["image_id"], names, chosen["width"], chosen["height"], strict=True)
    table = boxes_table([(image_id, name, 0, 0, width, height, nan) for image_id, name, width, height in cells])
    return table.assign(method="", confidence=nan, iscrowd=1, ignored_by=UNCERTAIN_WITHOUT_BOX)


def _provenance(predictors: BoxPredictors, settings: PseudoLabelSettings) -> dict[str, Any]:
    return {
        "stage": "stage2",
        "commit": code_state()["commit"],
        "methods": dict(zip(predictors.findings, predictors.methods, strict=True)),
        "rules": {name: str(rule) for name, rule in zip(predictors.findings, predictors.rules, strict=True)},
        "settings": settings.model_dump(mode="json"),
    }

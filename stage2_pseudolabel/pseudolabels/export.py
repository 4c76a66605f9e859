"""Pseudo-labels: boxes of the chosen method in the training images, only for findings that the label affirms.

Boxes of uncertain labels and boxes below the minimum confidence become ignore regions (iscrowd 1), so that the detector
learns neither that there is a finding nor that there is none. The whole image is an ignore region of a finding that may
be anywhere in it: if the label affirms it or is uncertain about it and the rule gives no box, if the label affirms it
and the classifier does not see it, or if the image's data set does not label it. All of this is decided per finding;
the other findings of the image keep their boxes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cxr.arrays import Bools, Floats, Ints
from cxr.coco import IMAGE_FIELDS, CocoBoxes, boxes_table
from cxr.labels import COMPATIBLE_WITH_NO_FINDING, NO_FINDING
from cxr.runs.provenance import code_state
from cxr.tables import NOT_ASKED, Dataset, Exclusion
from eval.detection.confidence import ConfidenceFigures
from stage1_classify.settings.classifier import NotMentioned
from stage2_pseudolabel.boxes.truth import image_sizes, info
from stage2_pseudolabel.cam_maps.store import SplitMaps
from stage2_pseudolabel.pseudolabels.base_rates import base_rates, too_unlikely
from stage2_pseudolabel.pseudolabels.box_predictors import BoxPredictors
from stage2_pseudolabel.pseudolabels.coverage import Coverage, coverage_of
from stage2_pseudolabel.pseudolabels.report_places import PlaceGate
from stage2_pseudolabel.pseudolabels.tune_statistics import TuneStatistics
from stage2_pseudolabel.settings.exported_boxes import PseudoLabelSettings

POSITIVE, NEGATIVE, UNCERTAIN = 1, 0, -1

UNCERTAIN_LABEL = "uncertain label"
UNCERTAIN_WITHOUT_BOX = "uncertain label, no box by the rule"
NOT_LABELLED = "finding that the data set does not label"
LOW_CONFIDENCE = "low confidence"
NOT_SEEN = "affirmed, but not seen by the classifier"
NO_BOX = "affirmed, but no box by the rule"
"""Why there is an ignore region, in `ignored_by`."""


@dataclass(frozen=True)
class PseudoLabels:
    """Boxes and ignore regions of the training images.

    coco: what stage 3 loads. excluded: images that cannot be read, each with its reason.
    dropped: boxes below `min_confidence_further` in images that have a better box of the finding.
    unseen: boxes of findings that the label affirms and the classifier does not see.
    calibration: of the confidence, on the tune split. coverage: how many positives of each finding keep a box.
    """

    coco: CocoBoxes
    excluded: tuple[Exclusion, ...]
    dropped: pd.DataFrame
    unseen: pd.DataFrame
    calibration: ConfidenceFigures
    coverage: Coverage

    @property
    def ignored(self) -> dict[str, int]:
        """Number of ignore regions by reason, the most frequent first."""
        if "ignored_by" not in self.coco.boxes:
            return {}
        reasons = self.coco.boxes.loc[self.coco.is_ignored, "ignored_by"]
        return {str(reason): int(count) for reason, count in reasons.value_counts().items()}


@dataclass(frozen=True)
class ExportRules:
    """What becomes a box.

    gate: places of findings from reports. not_mentioned: how the classifier's training took blank labels
    (`labels.not_mentioned` of stage 1).
    """

    settings: PseudoLabelSettings
    gate: PlaceGate | None = None
    not_mentioned: NotMentioned = "zeros"


def make_pseudo_labels(
    train: Dataset, scored: SplitMaps, predictors: BoxPredictors, *, statistics: TuneStatistics, rules: ExportRules
) -> PseudoLabels:
    """Predict boxes with score, confidence and method. Images with a normal label stay, without boxes.

    Args:
        scored: maps and probabilities of the images of `train`; columns in the order of the predictors' findings.
    """
    settings = rules.settings
    given = train.labels[list(predictors.findings)]
    images = _LabelledImages(_image_rows(train, scored), given.to_numpy(dtype=np.float64), scored, predictors.findings)
    rates = base_rates(given, not_mentioned=rules.not_mentioned)
    weak = images.are(POSITIVE) & too_unlikely(scored.probabilities, rates, settings.min_likelihood_ratio)
    found = predictors.boxes(scored, images.table, wanted=images.are(POSITIVE) | images.are(UNCERTAIN), gate=rules.gate)
    found = found.assign(confidence=statistics.confidence.of(found))
    is_weak = weak[images.cells(found)]
    unseen, found = (found[kept].reset_index(drop=True) for kept in (is_weak, ~is_weak))
    kept, dropped = _filtered(images, found, settings)
    boxes = pd.concat([kept, _whole_images(images, found, weak)], ignore_index=True)
    rows, columns = images.cells(boxes)
    boxes = boxes.iloc[np.lexsort((columns, rows))].reset_index(drop=True)
    bad = {item.what for item in scored.bad}
    table = images.table.assign(labels=_label_dicts(images, train.labels))
    table = table[~table["image_id"].isin(bad)].reset_index(drop=True)
    source = info(train, "train") | {"made_by": _provenance(predictors, settings)}
    coco = CocoBoxes(table, boxes, predictors.findings, source)
    coverage = coverage_of(coco, images.labels, rates)
    return PseudoLabels(coco, scored.bad, dropped, unseen, statistics.calibration, coverage)


@dataclass(frozen=True)
class _LabelledImages:
    """The N training images with their labels (N, K), maps and probabilities."""

    table: pd.DataFrame
    labels: Floats
    scored: SplitMaps
    findings: tuple[str, ...]

    def are(self, label: float) -> Bools:
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
    """A dict finding -> 1, 0, -1 or None per image. With "No Finding", findings that are not mentioned are 0; findings
    that were not asked are None.
    """
    normal = np.zeros((len(labels), 1), dtype=bool)
    if NO_FINDING in labels:
        normal = labels[[NO_FINDING]].to_numpy(dtype=np.float64) == POSITIVE
    ruled_out = normal & np.array([name not in COMPATIBLE_WITH_NO_FINDING for name in images.findings])
    values = np.where(np.isnan(images.labels) & ruled_out, NEGATIVE, images.labels)
    values[values == NOT_ASKED] = np.nan
    rows = [
        {name: None if np.isnan(v) else int(v) for name, v in zip(images.findings, row, strict=True)}
        for row in values.tolist()
    ]
    return pd.Series(rows, dtype=object)


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


def _whole_images(images: _LabelledImages, found: pd.DataFrame, weak: Bools) -> pd.DataFrame:
    """An ignore region of the whole image for each finding that may be in it and has no box in `found`.

    weak: (N, K) affirmed findings that the classifier does not see.
    """
    affirmed, uncertain = images.are(POSITIVE), images.are(UNCERTAIN)
    boxless = affirmed | uncertain | images.are(NOT_ASKED)
    boxless[images.cells(found)] = False
    rows, columns = np.nonzero(boxless)
    chosen, nan = images.table.iloc[rows], float("nan")
    names = np.array(images.findings, dtype=object)[columns]
    cells = zip(chosen["image_id"], names, chosen["width"], chosen["height"], strict=True)
    table = boxes_table([(image_id, name, 0, 0, width, height, nan) for image_id, name, width, height in cells])
    by_label = np.select([affirmed, uncertain], [NO_BOX, UNCERTAIN_WITHOUT_BOX], NOT_LABELLED)
    reasons = np.where(weak, NOT_SEEN, by_label)[rows, columns].astype(object)
    return table.assign(method="", confidence=nan, iscrowd=1, ignored_by=reasons)


def _provenance(predictors: BoxPredictors, settings: PseudoLabelSettings) -> dict[str, Any]:
    return {
        "stage": "stage2",
        "commit": code_state()["commit"],
        "methods": dict(zip(predictors.findings, predictors.methods, strict=True)),
        "rules": {name: str(rule) for name, rule in zip(predictors.findings, predictors.rules, strict=True)},
        "settings": settings.model_dump(mode="json"),
    }

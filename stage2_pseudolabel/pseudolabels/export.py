"""Pseudo-labels: boxes of the chosen method in the training images, only for findings that the label affirms.

What a label doubts, and what a filter takes out, becomes an ignore region (iscrowd 1): a detector is to learn there
neither that something is nor that nothing is. A doubted finding without a box by its rule is ignored in the whole
picture. An affirmed finding without a box excludes its image: a detector that does not know ignore regions would take
the image for one without the finding.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.arrays import Bools, Floats, Ints
from cxr.coco import IMAGE_FIELDS, CocoBoxes, boxes_table
from cxr.labels import BESIDE_NO_FINDING, NO_FINDING
from cxr.runs.provenance import code_state
from cxr.tables import Dataset, Exclusion
from eval.detection.confidence import ConfidenceFigures
from stage2_pseudolabel.boxes.truth import image_sizes, info
from stage2_pseudolabel.cam_maps.store import SplitMaps
from stage2_pseudolabel.pseudolabels.filters import LOW_CONFIDENCE, below_confidence, further_below_confidence
from stage2_pseudolabel.pseudolabels.makers import BoxMakers
from stage2_pseudolabel.pseudolabels.quality import Quality, pseudo_quality
from stage2_pseudolabel.pseudolabels.tune_statistics import TuneFacts
from stage2_pseudolabel.settings.pseudolabels import PseudoLabelSettings

POSITIVE, NEGATIVE, UNCERTAIN = 1, 0, -1
DOUBTED = "uncertain label"
DOUBTED_WITHOUT_BOX = "uncertain label, no box by the rule"
NOT_SEEN = "the classifier does not see a finding that the label affirms"
NO_BOX = "a finding that the label affirms has no box by the rule"


@dataclass(frozen=True)
class Recipe:
    """How pseudo-labels are made. facts: what the tune split says about boxes by `makers`."""

    makers: BoxMakers
    facts: TuneFacts
    settings: PseudoLabelSettings


@dataclass(frozen=True)
class PseudoLabels:
    """Boxes and ignore regions of the training images, and what is known about them.

    coco: as stage 3 reads it. excluded: images that could teach something false, each with its reason.
    dropped: boxes beside a better one that are too unsure to be exported (`min_confidence_further`).
    calibration: of the boxes' confidence, on the tune split. quality, truth: against true boxes of the same images,
        where the data has some.
    """

    coco: CocoBoxes
    excluded: tuple[Exclusion, ...]
    dropped: pd.DataFrame
    calibration: ConfidenceFigures | None = None
    quality: Quality | None = None
    truth: CocoBoxes | None = None

    @property
    def ignored(self) -> dict[str, int]:
        """Ignore regions by what made them so, an uncertain label or a filter; the most frequent first."""
        if "ignored_by" not in self.coco.boxes:
            return {}
        reasons = self.coco.boxes.loc[self.coco.is_ignored, "ignored_by"]
        return {str(reason): int(count) for reason, count in reasons.value_counts().items()}


def pseudo_labels(train: Dataset, scored: SplitMaps, recipe: Recipe) -> PseudoLabels:
    """Boxes with score, confidence and method; images that the label calls normal have none and stay.

    Args:
        scored: maps and probabilities of the images of `train`, columns in the order of the makers' findings.
    """
    makers = recipe.makers
    labels = train.labels[list(makers.findings)].to_numpy(dtype=np.float64)
    case = _Case(_images(train, scored), labels, scored, makers.findings)
    found = makers.boxes(scored, case.images, wanted=case.affirmed | case.doubted)
    excluded = _exclusions(case, found, recipe.settings)
    left_out = {item.what for item in excluded}
    judged, dropped = _judged(case, found[~found["image_id"].isin(left_out)], recipe)
    boxes = pd.concat([judged, _doubted_without_box(case, found, left_out)], ignore_index=True)
    images = case.images.assign(labels=_plain_labels(case, train.labels))
    images = images[~images["image_id"].isin(left_out)].reset_index(drop=True)
    coco = CocoBoxes(images, _in_order(boxes, case), makers.findings, _provenance(train, recipe))
    return PseudoLabels(coco, excluded, dropped, recipe.facts.calibration)


def judged_by_truth(
    pseudo: PseudoLabels, truth: CocoBoxes | None, *, num_resamples: int = 1000, seed: int = 0
) -> PseudoLabels:
    """The same with the true boxes of the training images (None: the data has none) and the quality against them."""
    options = {"num_resamples": num_resamples, "seed": seed}
    quality = pseudo_quality(pseudo.coco, truth, dropped=pseudo.dropped, **options)
    return replace(pseudo, truth=None if quality is None else truth, quality=quality)


@dataclass(frozen=True)
class _Case:
    """The N training images with their labels (N, K), and what was made of them."""

    images: pd.DataFrame
    labels: Floats
    scored: SplitMaps
    findings: tuple[str, ...]

    @property
    def affirmed(self) -> Bools:
        """(N, K), images without maps left out."""
        return np.asarray((self.labels == POSITIVE) & self._usable)

    @property
    def doubted(self) -> Bools:
        """(N, K), images without maps left out."""
        return np.asarray((self.labels == UNCERTAIN) & self._usable)

    @property
    def _usable(self) -> Bools:
        bad = [item.what for item in self.scored.bad]
        return ~self.images["image_id"].isin(bad).to_numpy(dtype=bool)[:, None]

    def cells(self, boxes: pd.DataFrame) -> tuple[Ints, Ints]:
        """Row and column of each box."""
        row_of = {image_id: row for row, image_id in enumerate(self.images["image_id"])}
        column_of = {name: column for column, name in enumerate(self.findings)}
        rows = np.array([row_of[image_id] for image_id in boxes["image_id"]], dtype=np.int64)
        return rows, np.array([column_of[name] for name in boxes["finding"]], dtype=np.int64)


def _images(train: Dataset, scored: SplitMaps) -> pd.DataFrame:
    """The images with their sizes, 0 where the picture could not be had."""
    bad = {item.what for item in scored.bad}
    known = image_sizes(train.select(image_id for image_id in train.images["image_id"] if image_id not in bad))
    images = train.images[["image_id", "path", "region", "patient_id"]].merge(
        known[["image_id", "width", "height"]], on="image_id", how="left", validate="one_to_one"
    )
    images[["width", "height"]] = images[["width", "height"]].fillna(0).astype(np.int64)
    return images[[*IMAGE_FIELDS, "patient_id"]]


def _plain_labels(case: _Case, labels: pd.DataFrame) -> "pd.Series[Any]":
    """A dict finding -> 1, 0, -1 or None for each image; "No Finding" denies what the label does not mention."""
    normal = np.zeros((len(labels), 1), dtype=bool)
    if NO_FINDING in labels:
        normal = labels[[NO_FINDING]].to_numpy(dtype=np.float64) == POSITIVE
    ruled_out = normal & np.array([name not in BESIDE_NO_FINDING for name in case.findings])
    told = np.where(np.isnan(case.labels) & ruled_out, NEGATIVE, case.labels)
    rows = [
        {name: None if np.isnan(v) else int(v) for name, v in zip(case.findings, row, strict=True)}
        for row in told.tolist()
    ]
    return pd.Series(rows, dtype=object)


def _exclusions(case: _Case, found: pd.DataFrame, settings: PseudoLabelSettings) -> tuple[Exclusion, ...]:
    """Images left out, in their order, each for the first of its reasons."""
    affirmed, with_box = case.affirmed, np.zeros_like(case.affirmed)
    with_box[case.cells(found)] = True
    not_seen = np.any(affirmed & (case.scored.probabilities < settings.min_probability), axis=1)
    no_box = np.any(affirmed & ~with_box, axis=1)
    bad = {item.what: item.reason for item in case.scored.bad}
    excluded = []
    for row, image_id in enumerate(case.images["image_id"]):
        reason = bad.get(image_id) or (NOT_SEEN if not_seen[row] else NO_BOX if no_box[row] else "")
        if reason:
            excluded.append(Exclusion(image_id, reason))
    return tuple(excluded)


def _judged(case: _Case, found: pd.DataFrame, recipe: Recipe) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The boxes with confidence, iscrowd and ignored_by; and the affirmed ones that are dropped."""
    confidence = recipe.facts.confidence.of(found)
    found = found.assign(confidence=confidence)
    drop = further_below_confidence(found, confidence, recipe.settings.min_confidence_further)
    boxes, dropped = found[~drop].reset_index(drop=True), found[drop].reset_index(drop=True)
    dropped = dropped[case.affirmed[case.cells(dropped)]].reset_index(drop=True)
    filtered = _filtered(boxes, recipe.settings)
    reason = np.where(case.doubted[case.cells(boxes)], DOUBTED, filtered).astype(object)
    return boxes.assign(iscrowd=(reason != "").astype(np.int64), ignored_by=reason), dropped


def _filtered(boxes: pd.DataFrame, settings: PseudoLabelSettings) -> npt.NDArray[np.object_]:
    """(N,) LOW_CONFIDENCE where a box does not pass, else ""."""
    confidence = boxes["confidence"].to_numpy(dtype=np.float64)
    return np.where(below_confidence(confidence, settings.min_confidence), LOW_CONFIDENCE, "").astype(object)


def _doubted_without_box(case: _Case, found: pd.DataFrame, left_out: set[str]) -> pd.DataFrame:
    """An ignore region over the whole picture for each of them."""
    boxless = case.doubted
    boxless[case.cells(found)] = False
    boxless[case.images["image_id"].isin(left_out).to_numpy()] = False
    rows, columns = np.nonzero(boxless)
    images = case.images.iloc[rows]
    corners = np.zeros((len(rows), 4))
    corners[:, 2:] = images[["width", "height"]]
    names = zip(images["image_id"], np.array(case.findings, dtype=object)[columns], strict=True)
    nan = float("nan")
    table = boxes_table([(*name, *box, nan) for name, box in zip(names, corners.tolist(), strict=True)])
    return table.assign(method="", confidence=nan, iscrowd=1, ignored_by=DOUBTED_WITHOUT_BOX)


def _in_order(boxes: pd.DataFrame, case: _Case) -> pd.DataFrame:
    """By image, then finding, the strongest first as they came."""
    rows, columns = case.cells(boxes)
    return boxes.iloc[np.lexsort((columns, rows))].reset_index(drop=True)


def _provenance(train: Dataset, recipe: Recipe) -> dict[str, Any]:
    makers = recipe.makers
    return info(train, "train") | {
        "made_by": {
            "stage": "stage2",
            "commit": code_state()["commit"],
            "methods": dict(zip(makers.findings, makers.methods, strict=True)),
            "rules": {name: str(rule) for name, rule in zip(makers.findings, makers.rules, strict=True)},
            "settings": recipe.settings.model_dump(mode="json"),
        }
    }

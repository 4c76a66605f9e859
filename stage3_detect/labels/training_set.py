"""Labels with doubts -> images to learn from, what each of them tells the detector, and images to validate on."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.coco import CocoBoxes
from cxr.config import UserError
from stage3_detect.labels.rows import cut_to_images, is_strong, rows_of, told_labels
from stage3_detect.labels.sources import in_fixed_order, of_images
from stage3_detect.settings.detector import DetectSettings
from stage3_detect.settings.labels import LabelSettings, NoiseSettings

IMAGE_FIELDS = ["image_id", "file", "region", "kind", "source", "is_true", "repeats"]
POSITIVE, NORMAL, DOUBTFUL = "positive", "normal", "doubtful"
log = logging.getLogger("raybox")


@dataclass(frozen=True)
class TrainingSet:
    """What the detector learns from and what chooses its best epoch.

    images: IMAGE_FIELDS. file: path; kind: with boxes, without anything, or with doubts only; source: "labels" or
        "tune" (an id may occur in both); is_true: with radiologists' boxes; repeats: times an epoch.
    rows: `rows.ROW_FIELDS`, sorted by image. findings: the classes in order.
    validation: images and boxes, no regions, that choose the best epoch.
    num_left_out: images with doubts only that were not taken.
    """

    images: pd.DataFrame
    rows: pd.DataFrame
    findings: tuple[str, ...]
    validation: CocoBoxes
    num_left_out: int


@dataclass(frozen=True)
class Chosen:
    """Ids of images by what they have: boxes, nothing (as many as wanted), or only doubts (taken or left out)."""

    positives: list[str]
    normals: list[str]
    doubtful: list[str]
    left_out: list[str]

    @property
    def kinds(self) -> dict[str, str]:
        """Image id -> kind, of the images that are taken."""
        pairs = ((POSITIVE, self.positives), (NORMAL, self.normals), (DOUBTFUL, self.doubtful))
        return {image_id: kind for kind, ids in pairs for image_id in ids}


@dataclass(frozen=True)
class _Part:
    """Images of one source by what becomes of them: learned from (id -> kind) or held out."""

    coco: CocoBoxes
    learned: dict[str, str]
    held: set[str]
    num_left_out: int


def make_training_set(
    labels: CocoBoxes, true: CocoBoxes | None, tune: CocoBoxes | None, settings: DetectSettings
) -> TrainingSet:
    """Choose images, hold a part out for validation, and write down boxes and regions.

    Args:
        labels: boxes of the training images. true: images of another source with radiologists' boxes, or None.
        tune: what to validate on instead of a held-out part; None to hold out.

    Raises:
        UserError: no box to learn from, or no image to validate on.
    """
    few, hold_out = settings.labels.true_boxes, tune is None
    part, repeats = _choose(labels, settings, hold_out=hold_out), 1
    if few.alone:
        assert true is not None, "settings forbid true boxes alone without true boxes"
        length = len(part.learned)
        part = _choose(true, settings, hold_out=hold_out)
        repeats = max(1, math.ceil(length / max(len(part.learned), 1)))
    _check_has_boxes(part, settings)
    is_true = few.alone or settings.labels.source == "true"
    tables = [_tables(part, settings, source="labels", is_true=is_true, repeats=repeats)]
    if true is not None and not few.alone:
        # all of them, whatever share of normals is asked for among the others: the user chose their number
        more = _choose(true, settings, hold_out=False, all_normals=True)
        tables.append(_tables(more, settings, source="tune", is_true=True, repeats=few.repeat))
    images, rows = _joined(tables)
    validation = _plain(
        of_images(part.coco, part.held) if tune is None else cut_to_images(tune), settings.labels
    )
    _check_validation(validation, part, settings)
    rows = _on_average_1(images, rows, settings.noise)
    return TrainingSet(images, rows, labels.findings, validation, part.num_left_out)


def choose_images(
    labels: CocoBoxes, settings: DetectSettings, *, seed: int, all_normals: bool = False
) -> Chosen:
    """Images with a box, all of them; of those without anything as many as `normals_per_positive` asks for; and those
    that have ignore regions alone, where regions are told to the detector.

    The order depends on a hash of (seed, image id) alone, so adding images changes no other image's place. An image
    without a box is no normal when its label affirms or doubts a class, or when nothing of it would count because its
    label mentions no class.
    """
    strong = set(labels.boxes.loc[is_strong(labels, settings.labels), "image_id"])
    anything = set(labels.boxes["image_id"])
    unclear, blind = _unclear(labels), _blind(labels, settings.noise)
    ordered = in_fixed_order(labels.images["image_id"], seed=seed)
    bare = [image_id for image_id in ordered if image_id not in anything]
    normals = [image_id for image_id in bare if image_id not in unclear and image_id not in blind]
    if not all_normals:
        num_positives = sum(image_id in strong for image_id in ordered)
        normals = normals[: round(settings.labels.normals_per_positive * num_positives)]
    regions = [image_id for image_id in ordered if image_id in anything and image_id not in strong]
    left_out = [image_id for image_id in bare if image_id in unclear]
    positives = [image_id for image_id in ordered if image_id in strong]
    if settings.noise.ignore_regions:
        return Chosen(positives, normals, regions, left_out)
    return Chosen(positives, normals, [], regions + left_out)


def held_out(labels: CocoBoxes, image_ids: Sequence[str], share: float, seed: int) -> set[str]:
    """Images of about this share of the patients, at least one of two or more; patients in a fixed random order."""
    group_of = dict(zip(labels.images["image_id"], labels.groups, strict=True))
    groups = in_fixed_order({group_of[image_id] for image_id in image_ids}, seed=seed)
    count = min(max(1, round(share * len(groups))), len(groups) - 1)
    first = set(groups[: max(count, 0)])
    return {image_id for image_id in image_ids if group_of[image_id] in first}


def _choose(
    labels: CocoBoxes, settings: DetectSettings, *, hold_out: bool, all_normals: bool = False
) -> _Part:
    coco = cut_to_images(labels)
    chosen = choose_images(coco, settings, seed=settings.seed, all_normals=all_normals)
    share = settings.data.holdout_share
    held = held_out(coco, list(chosen.kinds), share, settings.seed) if hold_out else set()
    learned = {image_id: kind for image_id, kind in chosen.kinds.items() if image_id not in held}
    return _Part(coco, learned, held, len(chosen.left_out))


def _unclear(labels: CocoBoxes) -> set[str]:
    """Images whose label affirms or doubts a class."""
    told = told_labels(labels)
    if told is None:
        return set()
    return set(labels.images.loc[(np.abs(told) == 1).any(axis=1), "image_id"])


def _blind(labels: CocoBoxes, noise: NoiseSettings) -> set[str]:
    """Images whose label says nothing that counts: no class denied, and unmentioned ones masked."""
    told = told_labels(labels)
    if told is None or not noise.image_labels or noise.unmentioned_weight > 0:
        return set()
    return set(labels.images.loc[~(told == 0).any(axis=1), "image_id"])


def _plain(coco: CocoBoxes, settings: LabelSettings) -> CocoBoxes:
    """For validation: boxes only, and no image that has only doubts."""
    boxes = coco.boxes[is_strong(coco, settings)].reset_index(drop=True)
    doubtful = set(coco.boxes["image_id"]) - set(boxes["image_id"])
    known = set(coco.images["image_id"]) - doubtful
    return of_images(coco.with_boxes(boxes), known)


def _tables(
    part: _Part, settings: DetectSettings, *, source: str, is_true: bool, repeats: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images and rows of the images that are learned from."""
    coco = of_images(part.coco, part.learned)
    root = Path(str(coco.info["data_root"]))
    images = coco.images[["image_id", "region"]].assign(
        file=[str(root / path) for path in coco.images["path"]],
        kind=[part.learned[image_id] for image_id in coco.images["image_id"]],
        source=source,
        is_true=is_true,
        repeats=repeats,
    )
    return images[IMAGE_FIELDS], rows_of(coco, settings, is_true=is_true)


def _joined(tables: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The sources' tables one under another; rows point at their images still."""
    starts = np.cumsum([0, *(len(images) for images, _ in tables)])
    rows = [
        part.assign(image=part["image"] + start) for (_, part), start in zip(tables, starts, strict=False)
    ]
    images = pd.concat([images for images, _ in tables], ignore_index=True)
    return images, pd.concat(rows, ignore_index=True).astype({"image": np.int64, "is_region": np.bool_})


def _on_average_1(images: pd.DataFrame, rows: pd.DataFrame, noise: NoiseSettings) -> pd.DataFrame:
    """Weights of boxes over their mean in an epoch, else the lower the confidence the more background would count
    against them. Where all are 0 they say nothing, and all become 1."""
    is_box = ~rows["is_region"]
    shown = images["repeats"].to_numpy()[rows.loc[is_box, "image"]]
    if not noise.box_weights or not is_box.any():
        return rows
    mean = float(np.average(rows.loc[is_box, "weight"], weights=shown))
    if mean <= 0:
        log.warning("stage3: the confidence of all boxes is 0, so they all count the same")
    weights = rows["weight"] / mean if mean > 0 else pd.Series(1.0, rows.index)
    return rows.assign(weight=rows["weight"].where(~is_box, weights))


def _check_has_boxes(part: _Part, settings: DetectSettings) -> None:
    if POSITIVE in part.learned.values():
        return
    if not is_strong(part.coco, settings.labels).any():
        raise UserError("stage 3: no image has a box; lower labels.min_pseudo_score or look at stage 2's run")
    raise UserError(
        f"stage 3: all images with boxes are held out for validation ({len(part.held)} images, by patient); "
        "use data.validate_on: tune_boxes, another data.holdout_share or more images"
    )


def _check_validation(validation: CocoBoxes, part: _Part, settings: DetectSettings) -> None:
    if not len(validation.images) and settings.data.validate_on == "tune_boxes":
        raise UserError(
            "data.validate_on: tune_boxes, but no image of the tune split is left to validate on; use "
            "pseudo_labels, or learn from fewer true boxes (labels.true_boxes.number)"
        )
    if not len(validation.images):
        raise UserError(
            f"stage 3: no image to validate on: all {len(part.learned)} images are of one patient, or those held out "
            "have doubts only; use data.validate_on: tune_boxes or more images"
        )
    if not len(validation.boxes):
        log.warning("stage3: no validation image has a box, so the last epoch counts as the best")

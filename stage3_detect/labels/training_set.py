"""From noisy labels to a training set: the training images, their targets, and the validation images."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.coco import CocoBoxes
from cxr.config import UserError
from stage3_detect.labels.rows import cut_to_images, is_strong, rows_of
from stage3_detect.labels.sources import in_fixed_order
from stage3_detect.settings.detector import Stage3Settings
from stage3_detect.settings.labels import LabelSettings, NoiseSettings

IMAGE_FIELDS = ["image_id", "file", "region", "kind", "source", "is_true", "repeats"]
KINDS = POSITIVE, NORMAL, UNCERTAIN = "positive", "normal", "uncertain"
log = logging.getLogger("raybox")


@dataclass(frozen=True)
class TrainingSet:
    """Training images and targets, and the images that choose the best epoch.

    images: IMAGE_FIELDS. file: path. kind: positive (has boxes), normal (nothing) or uncertain (ignore regions only).
        source: "labels", "tune" or "corrections" (an id may occur in several). is_true: the boxes are radiologists'.
        repeats: how often the image is shown per epoch.
    rows: `rows.ROW_FIELDS`, sorted by image. findings: the classes in order.
    validation: images with boxes, without ignore regions.
    num_left_out: uncertain images that are not used.
    """

    images: pd.DataFrame
    rows: pd.DataFrame
    findings: tuple[str, ...]
    validation: CocoBoxes
    num_left_out: int


class Chosen(NamedTuple):
    """Image ids by content: with boxes, without anything (as many as wanted), uncertain (used or not)."""

    positives: list[str]
    normals: list[str]
    uncertain: list[str]
    left_out: list[str]

    @property
    def kinds(self) -> dict[str, str]:
        """Image id -> kind, for the images that are used."""
        return {image_id: kind for kind, ids in zip(KINDS, self, strict=False) for image_id in ids}


class _Part(NamedTuple):
    """The images of one source: those for training (id -> kind) and those held out for validation."""

    coco: CocoBoxes
    train: dict[str, str]
    held_out: set[str]
    num_left_out: int


def make_training_set(
    labels: CocoBoxes,
    true: CocoBoxes | None,
    tune: CocoBoxes | None,
    settings: Stage3Settings,
    *,
    corrections: CocoBoxes | None = None,
) -> TrainingSet:
    """Choose the images, hold some out for validation, and make the targets.

    Args:
        labels: boxes of the training images.
        true: images of another source with radiologists' boxes, or None.
        tune: images for validation; None holds out a part of the training images instead.
        corrections: images of a third source with readers' corrections, or None.

    Raises:
        UserError: there is no box to train on, or no image for validation.
    """
    few, hold_out = settings.labels.true_boxes, tune is None
    part, repeats = _choose(labels, settings, hold_out=hold_out), 1
    if few.only:
        assert true is not None, "settings forbid true boxes alone without true boxes"
        length = len(part.train)
        part = _choose(true, settings, hold_out=hold_out)
        repeats = max(1, math.ceil(length / max(len(part.train), 1)))
    _check_has_boxes(part, settings)
    is_true = few.only or settings.labels.source == "true_boxes"
    tables = [_tables(part, settings, source="labels", is_true=is_true, repeats=repeats)]
    more = [("tune", None if few.only else true, few.repeat)]
    more += [("corrections", corrections, settings.labels.corrections.repeat)]
    for source, coco, times in more:
        if coco is not None:
            # all normals: the user chose the number of these images, so normals_per_positive does not apply
            own = _choose(coco, settings, hold_out=False, all_normals=True)
            tables.append(_tables(own, settings, source=source, is_true=True, repeats=times))
    images, rows = _joined(tables)
    validation = part.coco.select(part.held_out) if tune is None else cut_to_images(tune)
    validation = _boxes_only(validation, settings.labels)
    _check_validation(validation, part, settings)
    rows = _scale_weights(images, rows, settings.noise)
    return TrainingSet(images, rows, labels.findings, validation, part.num_left_out)


def choose_images(labels: CocoBoxes, settings: Stage3Settings, *, seed: int, all_normals: bool = False) -> Chosen:
    """Choose all images with a box, `normals_per_positive` normal images per image with a box, and the uncertain
    images (ignore regions only) if `noise.ignore_regions`.

    The order depends only on a hash of (seed, image id), so adding images does not change the order of the others. An
    image without boxes is not normal if its label affirms a class or is uncertain about one, or if it would have no
    effect because the label mentions no class.
    """
    strong = set(labels.boxes.loc[is_strong(labels, settings.labels), "image_id"])
    anything = set(labels.boxes["image_id"])
    unclear, without_effect = _unclear_and_without_effect(labels, settings.noise)
    ordered = in_fixed_order(labels.images["image_id"], seed=seed)
    bare = [image_id for image_id in ordered if image_id not in anything]
    normals = [image_id for image_id in bare if image_id not in unclear and image_id not in without_effect]
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
    """The images of about `share` of the patients, of at least one patient if there are two or more."""
    group_of = dict(zip(labels.images["image_id"], labels.groups, strict=True))
    groups = in_fixed_order({group_of[image_id] for image_id in image_ids}, seed=seed)
    count = min(max(1, round(share * len(groups))), len(groups) - 1)
    first = set(groups[: max(count, 0)])
    return {image_id for image_id in image_ids if group_of[image_id] in first}


def _choose(labels: CocoBoxes, settings: Stage3Settings, *, hold_out: bool, all_normals: bool = False) -> _Part:
    coco = cut_to_images(labels)
    chosen = choose_images(coco, settings, seed=settings.seed, all_normals=all_normals)
    kinds, share = chosen.kinds, settings.data.holdout_share
    held = held_out(coco, list(kinds), share, settings.seed) if hold_out else set()
    train = {image_id: kind for image_id, kind in kinds.items() if image_id not in held}
    return _Part(coco, train, held, len(chosen.left_out))


def _unclear_and_without_effect(labels: CocoBoxes, noise: NoiseSettings) -> tuple[set[str], set[str]]:
    """Images whose label affirms a class or is uncertain about one, and images whose label denies no class while
    unmentioned classes are masked."""
    matrix, ids = labels.label_matrix, labels.images["image_id"]
    if matrix is None:
        return set(), set()
    is_masked = noise.image_labels and noise.unmentioned_weight <= 0
    return set(ids[(np.abs(matrix) == 1).any(axis=1)]), set(ids[~(matrix == 0).any(axis=1)]) if is_masked else set()


def _boxes_only(coco: CocoBoxes, settings: LabelSettings) -> CocoBoxes:
    """For validation: without ignore regions, and without the images that have nothing else."""
    boxes = coco.boxes[is_strong(coco, settings)].reset_index(drop=True)
    uncertain = set(coco.boxes["image_id"]) - set(boxes["image_id"])
    return coco.with_boxes(boxes).select(set(coco.images["image_id"]) - uncertain)


def _tables(
    part: _Part, settings: Stage3Settings, *, source: str, is_true: bool, repeats: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of the training images and of their targets."""
    coco = part.coco.select(part.train)
    root = Path(str(coco.info["data_root"]))
    images = coco.images[["image_id", "region"]].assign(
        file=[str(root / path) for path in coco.images["path"]],
        kind=[part.train[image_id] for image_id in coco.images["image_id"]],
        source=source,
        is_true=is_true,
        repeats=repeats,
    )
    return images[IMAGE_FIELDS], rows_of(coco, settings, is_true=is_true)


def _joined(tables: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Concatenate the tables of all sources; the rows' image numbers are shifted accordingly."""
    starts = np.cumsum([0, *(len(images) for images, _ in tables)])
    rows = [part.assign(image=part["image"] + start) for (_, part), start in zip(tables, starts, strict=False)]
    images = pd.concat([images for images, _ in tables], ignore_index=True)
    return images, pd.concat(rows, ignore_index=True).astype({"image": np.int64, "is_region": np.bool_})


def _scale_weights(images: pd.DataFrame, rows: pd.DataFrame, noise: NoiseSettings) -> pd.DataFrame:
    """Divide box weights by their mean per epoch, so that a low overall confidence does not raise the share of the
    background in the loss. If all weights are 0, all become 1."""
    is_box = ~rows["is_region"]
    shown = images["repeats"].to_numpy()[rows.loc[is_box, "image"]]
    if not noise.box_weights or not is_box.any():
        return rows
    mean = float(np.average(rows.loc[is_box, "weight"], weights=shown))
    if mean <= 0:
        log.warning("stage3: the confidence of all boxes is 0; all get the same weight")
    weights = rows["weight"] / mean if mean > 0 else pd.Series(1.0, rows.index)
    return rows.assign(weight=rows["weight"].where(~is_box, weights))


def _check_has_boxes(part: _Part, settings: Stage3Settings) -> None:
    if POSITIVE in part.train.values():
        return
    if not is_strong(part.coco, settings.labels).any():
        raise UserError("stage 3: no training image has a box; lower labels.min_score or check the stage 2 run")
    raise UserError(
        f"stage 3: all images with boxes are held out for validation ({len(part.held_out)} images, by patient); "
        "set data.validate_on to tune_boxes, change data.holdout_share or add images"
    )


def _check_validation(validation: CocoBoxes, part: _Part, settings: Stage3Settings) -> None:
    if not len(validation.images) and settings.data.validate_on == "tune_boxes":
        raise UserError(
            "data.validate_on: tune_boxes, but no image of the tune split is left for validation; use pseudo_labels, "
            "or train on fewer true boxes (labels.true_boxes.num_boxes)"
        )
    if not len(validation.images):
        raise UserError(
            f"stage 3: no image for validation: all {len(part.train)} images are of one patient, or those held out "
            "have ignore regions only; set data.validate_on to tune_boxes or add images"
        )
    if not len(validation.boxes):
        log.warning("stage3: no validation image has a box, so the last epoch is kept as the best")

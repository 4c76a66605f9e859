"""Write a training set as files for ultralytics: 8-bit PNGs at network size, targets and a list of images.

    data.yaml  train.txt  images/train/*.png  targets/train/*.txt  images/val/*.png  labels/val/*.txt
    recipe.json  dataset.json

`train.txt` lists an image as often as it is shown per epoch. `recipe.json` is written first and holds a fingerprint of
the content, `dataset.json` is written last and marks the folder as complete. A folder with another recipe is replaced,
an incomplete one is continued. `data.yaml` is always rewritten because it also holds training settings.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import yaml
from pydantic import Field

from cxr.boxes import CORNERS, clip_boxes
from cxr.config import UserError
from cxr.imaging.geometry import Resize
from cxr.own_json import Shape, read_if_whole
from cxr.runs.run_folder import atomic_write_text
from stage3_detect.labels.picture_files import Item, label_lines, target_lines, write_items
from stage3_detect.labels.training_set import NORMAL, POSITIVE, UNCERTAIN, TrainingSet
from stage3_detect.settings.detector import DataSettings

log = logging.getLogger("raybox")

CHANNELS = 1
"""Radiographs are grey. When training starts from a weights file, its first convolution is summed over colours."""

EXTRAS = "raybox"
"""Key of data.yaml for the settings of our trainer that ultralytics has no argument for."""

_LAYOUT = 4
"""Version of this file layout; a folder of another version is replaced."""

_SHOWN = 20


@dataclass(frozen=True)
class YoloFolder:
    """A finished folder and its counts.

    num_positives, num_normals, num_uncertain: training images with boxes, without anything, with ignore regions only.
    num_true: training images with radiologists' boxes. num_left_out: uncertain images that are not used. num_boxes,
    num_regions: rows of the target files. num_held_out: images for validation. excluded: (image id, reason) of each
    image that cannot be read.
    """

    data_yaml: Path
    num_positives: int
    num_normals: int
    num_uncertain: int
    num_left_out: int
    num_true: int
    num_boxes: int
    num_regions: int
    num_held_out: int
    excluded: tuple[tuple[str, str], ...]


class _Facts(Shape):
    """`dataset.json`: the fields of `YoloFolder`."""

    num_positives: int
    num_normals: int
    num_uncertain: int
    num_left_out: int
    num_true: int
    num_boxes: int
    num_regions: int
    num_held_out: int
    excluded: list[Annotated[list[str], Field(min_length=2, max_length=2)]]


def write_yolo_folder(
    folder: Path, training: TrainingSet, settings: DataSettings, *, extras: Mapping[str, Any]
) -> YoloFolder:
    """Write all files, or keep the folder if it is complete and has the same recipe.

    Args:
        extras: plain values for our trainer; written under EXTRAS in data.yaml.

    Raises:
        UserError: images cannot be read and `settings.on_problem` is "error", or without them no image with boxes or
            no validation image is left.
    """
    recipe, marker = _recipe(training, settings.image_px), folder / "dataset.json"
    if read_if_whole(folder / "recipe.json") != recipe and folder.exists():
        shutil.rmtree(folder)
    facts = read_if_whole(marker, shape=_Facts)
    if not facts or (facts["excluded"] and settings.on_problem == "error"):
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write_text(folder / "recipe.json", json.dumps(recipe, indent=1))
        facts = _write_pictures(folder, training, settings)
        atomic_write_text(marker, json.dumps(facts, indent=1))
    description = {"train": "train.txt", "val": "images/val", "channels": CHANNELS, EXTRAS: dict(extras)}
    description["names"] = dict(enumerate(training.findings))
    atomic_write_text(folder / "data.yaml", yaml.safe_dump(description))
    return yolo_folder(folder, facts)


def yolo_folder(folder: Path, facts: Mapping[str, Any]) -> YoloFolder:
    """A finished folder from its counts and excluded images, as in `dataset.json` and in a manifest."""
    excluded = tuple((image_id, reason) for image_id, reason in facts["excluded"])
    return YoloFolder(folder / "data.yaml", **{**facts, "excluded": excluded})


def _write_pictures(folder: Path, training: TrainingSet, settings: DataSettings) -> dict[str, Any]:
    """Write pictures, targets and the list; returns the content of `dataset.json`."""
    train = _training_items(folder, training, settings.image_px)
    items = [*train, *_validation_items(folder, training, settings.image_px)]
    reasons = write_items(items, settings.image_px)
    excluded = [(item.image_id, why) for item, why in zip(items, reasons, strict=True) if why is not None]
    if excluded and settings.on_problem == "error":
        lines = [f"stage 3: image {image_id}: {reason}" for image_id, reason in excluded[:_SHOWN]]
        advice = "repair them, or skip them with --set data.on_problem=exclude and another --out"
        raise UserError([*lines, f"stage 3: {len(excluded)} images cannot be read; {advice}"])
    for image_id, reason in excluded:
        log.warning("stage3: excluded image %s: %s", image_id, reason)
    good = np.array([reason is None for reason in reasons], dtype=np.bool_)
    counts = _counts(training, good[: len(train)], num_held_out=int(good[len(train) :].sum()))
    if not counts["num_positives"] or not counts["num_held_out"]:
        missing = "for validation" if counts["num_positives"] else "with boxes to train on"
        raise UserError(
            f"stage 3: {len(excluded)} images cannot be read, and no image {missing} is left; repair the files"
        )
    names = [
        f"./{item.picture.relative_to(folder).as_posix()}\n" * repeats
        for item, repeats, is_good in zip(train, training.images["repeats"], good, strict=False)
        if is_good
    ]
    atomic_write_text(folder / "train.txt", "".join(names))
    return {"excluded": excluded, **counts}


def _training_items(folder: Path, training: TrainingSet, image_px: int) -> list[Item]:
    texts = _texts(training.rows, len(training.images), training.findings, image_px)
    items = []
    for number, row in enumerate(training.images.itertuples(index=False)):
        stem = f"train/{row.source}_{number:07d}"
        picture, text_file = folder / f"images/{stem}.png", folder / f"targets/{stem}.txt"
        items.append(Item(str(row.image_id), Path(str(row.file)), row.region, picture, text_file, texts[number]))
    return items


def _validation_items(folder: Path, training: TrainingSet, image_px: int) -> list[Item]:
    coco = training.validation
    number_of = {image_id: number for number, image_id in enumerate(coco.images["image_id"])}
    rows = coco.boxes.assign(image=coco.boxes["image_id"].map(number_of)).sort_values("image", kind="stable")
    texts = _texts(rows, len(coco.images), training.findings, image_px)
    root = Path(str(coco.info["data_root"]))
    items = []
    for number, row in enumerate(coco.images.itertuples(index=False)):
        picture, text_file = folder / f"images/val/{number:07d}.png", folder / f"labels/val/{number:07d}.txt"
        items.append(Item(str(row.image_id), root / str(row.path), row.region, picture, text_file, texts[number]))
    return items


def _texts(
    rows: pd.DataFrame, num_images: int, findings: Sequence[str], image_px: int
) -> list[Callable[[Resize], str]]:
    """One function per image that gives its text file. With weights: target lines, else plain YOLO labels.

    Args:
        rows: sorted by image.
    """
    number_of = {finding: number for number, finding in enumerate(findings)}
    corners = rows[CORNERS].to_numpy(dtype=np.float64)
    classes = rows["finding"].map(number_of).to_numpy(dtype=np.int64)
    bounds = np.searchsorted(rows["image"].to_numpy(dtype=np.int64), np.arange(num_images + 1))
    extra = [rows[name].to_numpy() for name in ("weight", "is_region")] if "weight" in rows else []

    def text(part: slice, resize: Resize) -> str:
        boxes = resize.boxes_to_net(clip_boxes(corners[part], resize.image_hw))
        if not extra:
            return label_lines(boxes, classes[part].tolist(), image_px)
        weights, regions = (column[part].tolist() for column in extra)
        return target_lines(boxes, classes[part].tolist(), image_px, weights=weights, regions=regions)

    return [partial(text, slice(low, high)) for low, high in pairwise(bounds.tolist())]


def _recipe(training: TrainingSet, image_px: int) -> dict[str, Any]:
    """Fingerprint of everything that determines the files; survives a round trip through JSON."""
    validation = training.validation
    shown = validation.images[["image_id", "path", "region"]]
    tables = (training.images, training.rows, shown, validation.boxes)
    digest = hashlib.sha256(repr((training.findings, str(validation.info.get("data_root")))).encode())
    for table in tables:
        digest.update(repr(list(table.columns)).encode())
        digest.update(np.asarray(pd.util.hash_pandas_object(table, index=False)).tobytes())
    return {"layout": _LAYOUT, "image_px": image_px, "tables": digest.hexdigest()}


def _counts(training: TrainingSet, good: "np.ndarray[Any, Any]", *, num_held_out: int) -> dict[str, int]:
    """Counts of what was written; good: (N,), whether each training image could be read."""
    images = training.images[good]
    is_region = training.rows["is_region"].to_numpy(dtype=np.bool_)[good[training.rows["image"]]]
    names = {"num_positives": POSITIVE, "num_normals": NORMAL, "num_uncertain": UNCERTAIN}
    return {
        **{name: int((images["kind"] == kind).sum()) for name, kind in names.items()},
        "num_left_out": training.num_left_out,
        "num_true": int(images["is_true"].sum()),
        "num_boxes": int((~is_region).sum()),
        "num_regions": int(is_region.sum()),
        "num_held_out": num_held_out,
    }


def count_facts(folder: YoloFolder) -> dict[str, Any]:
    """Counts and excluded images for a manifest."""
    facts = {name: value for name, value in asdict(folder).items() if name.startswith("num_")}
    return facts | {"excluded": [list(entry) for entry in folder.excluded]}

"""A training set as files for ultralytics: 8-bit PNGs at network size, targets, a list. Only inside a stage 3 run.

    data.yaml  train.txt  images/train/*.png  targets/train/*.txt  images/val/*.png  labels/val/*.txt
    recipe.json  dataset.json

`train.txt` names an image as often as it is shown in an epoch. `recipe.json`, written first, says what the folder is
made of; `dataset.json`, written last, that it is complete. A folder of another recipe is written anew, an incomplete
one is gone on with. `data.yaml` is written every time: it holds settings of the training as well.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from cxr.boxes import CORNERS, clip_boxes
from cxr.config import UserError
from cxr.imaging.geometry import Resize
from cxr.runs.run_folder import atomic_write_text
from stage3_detect.labels.picture_files import Item, write_items
from stage3_detect.labels.target_files import label_lines, target_lines
from stage3_detect.labels.training_set import DOUBTFUL, NORMAL, POSITIVE, TrainingSet
from stage3_detect.settings.detector import DataSettings

log = logging.getLogger("raybox")

CHANNELS = 1
"""Radiographs are grey; a file's first convolution is summed over its colours when training starts from one."""

EXTRAS = "raybox"
"""Key of data.yaml under which stage 3's own trainer finds what ultralytics' arguments have no place for."""

_LAYOUT = 4
"""Number of this file layout; a folder of another one is written anew."""

_SHOWN = 20


@dataclass(frozen=True)
class YoloFolder:
    """A finished folder and what is in it; `excluded` names each image that could not be read and why.

    num_positives, num_normals, num_doubtful: training images with boxes, without anything, and with doubts only.
    num_true: of them those with radiologists' boxes. num_left_out: doubtful images that were not taken. num_boxes,
    num_regions: rows of the target files. num_held_out: images for validation.
    """

    data_yaml: Path
    num_positives: int
    num_normals: int
    num_doubtful: int
    num_left_out: int
    num_true: int
    num_boxes: int
    num_regions: int
    num_held_out: int
    excluded: tuple[tuple[str, str], ...]


def write_yolo_folder(
    folder: Path, training: TrainingSet, settings: DataSettings, *, extras: Mapping[str, Any]
) -> YoloFolder:
    """Write all files, or take the folder as it is when it is complete and of the same recipe.

    Args:
        extras: for our own trainer, plain values; what stands under EXTRAS in data.yaml.

    Raises:
        UserError: images cannot be read and `settings.on_problem` is "error", or without them there is nothing to learn
            from or to validate on.
    """
    recipe, marker = _recipe(training, settings.image_px), folder / "dataset.json"
    if _read_json(folder / "recipe.json") != recipe and folder.exists():
        shutil.rmtree(folder)
    facts = _read_json(marker)
    if not facts or (facts["excluded"] and settings.on_problem == "error"):
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write_text(folder / "recipe.json", json.dumps(recipe, indent=1))
        facts = _write_pictures(folder, training, settings)
        atomic_write_text(marker, json.dumps(facts, indent=1))
    description = {"train": "train.txt", "val": "images/val", "channels": CHANNELS, EXTRAS: dict(extras)}
    classes = dict(enumerate(training.findings))
    atomic_write_text(folder / "data.yaml", yaml.safe_dump(description | {"names": classes}))
    excluded = tuple((image_id, reason) for image_id, reason in facts.pop("excluded"))
    return YoloFolder(folder / "data.yaml", excluded=excluded, **facts)


def _write_pictures(folder: Path, training: TrainingSet, settings: DataSettings) -> dict[str, Any]:
    """Pictures, texts and the list; counts and names for `dataset.json`."""
    learned = _training_items(folder, training, settings.image_px)
    held = _validation_items(folder, training, settings.image_px)
    items = [*learned, *held]
    reasons = write_items(items, settings.image_px)
    excluded = [(item.image_id, why) for item, why in zip(items, reasons, strict=True) if why is not None]
    if excluded and settings.on_problem == "error":
        raise UserError(_excluded_lines(excluded))
    for image_id, reason in excluded:
        log.warning("stage3: left out %s: %s", image_id, reason)
    good = np.array([reason is None for reason in reasons], dtype=np.bool_)
    counts = _counts(training, good[: len(learned)], num_held_out=int(good[len(learned) :].sum()))
    if not counts["num_positives"] or not counts["num_held_out"]:
        missing = "validate on" if counts["num_positives"] else "learn boxes from"
        raise UserError(
            f"stage 3: {len(excluded)} images cannot be read, and none is left to {missing}; mend them"
        )
    names = [
        f"./{item.picture.relative_to(folder).as_posix()}\n" * repeats
        for item, repeats, is_good in zip(learned, training.images["repeats"], good, strict=False)
        if is_good
    ]
    atomic_write_text(folder / "train.txt", "".join(names))
    return {"excluded": excluded, **counts}


def _training_items(folder: Path, training: TrainingSet, image_px: int) -> list[Item]:
    images, texts = training.images, _texts(training.rows, len(training.images), training.findings, image_px)
    columns = (images["image_id"], images["file"], images["region"], images["source"])
    items = []
    for number, (image_id, file, region, source) in enumerate(zip(*columns, strict=True)):
        stem = f"{source}_{number:07d}"
        picture, beside = folder / f"images/train/{stem}.png", folder / f"targets/train/{stem}.txt"
        items.append(Item(image_id, Path(file), region, picture, beside, texts[number]))
    return items


def _validation_items(folder: Path, training: TrainingSet, image_px: int) -> list[Item]:
    coco = training.validation
    number_of = {image_id: number for number, image_id in enumerate(coco.images["image_id"])}
    rows = coco.boxes.assign(image=coco.boxes["image_id"].map(number_of)).sort_values("image", kind="stable")
    texts = _texts(rows, len(coco.images), training.findings, image_px)
    root = Path(str(coco.info["data_root"]))
    columns = (coco.images["image_id"], coco.images["path"], coco.images["region"])
    items = []
    for number, (image_id, path, region) in enumerate(zip(*columns, strict=True)):
        picture, beside = folder / f"images/val/{number:07d}.png", folder / f"labels/val/{number:07d}.txt"
        items.append(Item(image_id, root / path, region, picture, beside, texts[number]))
    return items


def _texts(
    rows: pd.DataFrame, num_images: int, findings: Sequence[str], image_px: int
) -> list[Callable[[Resize], str]]:
    """One an image; rows are sorted by image. Targets where they have weights, else plain YOLO labels."""
    number_of = {finding: number for number, finding in enumerate(findings)}
    corners = rows[CORNERS].to_numpy(dtype=np.float64)
    classes = rows["finding"].map(number_of).to_numpy(dtype=np.int64)
    bounds = np.searchsorted(rows["image"].to_numpy(dtype=np.int64), np.arange(num_images + 1))
    told = [rows[name].to_numpy() for name in ("weight", "is_region")] if "weight" in rows else []

    def of_image(part: slice) -> Callable[[Resize], str]:
        def text(resize: Resize) -> str:
            boxes = resize.boxes_to_net(clip_boxes(corners[part], resize.image_hw))
            if not told:
                return label_lines(boxes, classes[part].tolist(), image_px)
            weights, regions = (column[part].tolist() for column in told)
            return target_lines(boxes, classes[part].tolist(), image_px, weights=weights, regions=regions)

        return text

    return [of_image(slice(low, high)) for low, high in pairwise(bounds.tolist())]


def _recipe(training: TrainingSet, image_px: int) -> dict[str, Any]:
    """What makes the pictures, texts and lists; equal after a round trip through JSON."""
    validation = training.validation
    shown = validation.images[["image_id", "path", "region"]]
    tables = (training.images, training.rows, shown, validation.boxes)
    digest = hashlib.sha256(repr((training.findings, str(validation.info.get("data_root")))).encode())
    for table in tables:
        digest.update(repr(list(table.columns)).encode())
        digest.update(np.asarray(pd.util.hash_pandas_object(table, index=False)).tobytes())
    return {"layout": _LAYOUT, "image_px": image_px, "tables": digest.hexdigest()}


def _counts(training: TrainingSet, good: "np.ndarray[Any, Any]", *, num_held_out: int) -> dict[str, int]:
    """Counts of what was written; good: (N,), one a training image."""
    images = training.images[good]
    is_region = training.rows["is_region"].to_numpy(dtype=np.bool_)[good[training.rows["image"]]]
    kinds = images["kind"].value_counts()
    return {
        "num_positives": int(kinds.get(POSITIVE, 0)),
        "num_normals": int(kinds.get(NORMAL, 0)),
        "num_doubtful": int(kinds.get(DOUBTFUL, 0)),
        "num_left_out": training.num_left_out,
        "num_true": int(images["is_true"].sum()),
        "num_boxes": int((~is_region).sum()),
        "num_regions": int(is_region.sum()),
        "num_held_out": num_held_out,
    }


def _read_json(path: Path) -> dict[str, Any]:
    """What a file says; nothing without one, or where a kill left half of it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def count_facts(folder: YoloFolder) -> dict[str, Any]:
    """The counts and the names of what was left out, for a manifest."""
    facts = {name: value for name, value in asdict(folder).items() if name.startswith("num_")}
    return facts | {"excluded": [list(entry) for entry in folder.excluded]}


def _excluded_lines(excluded: Sequence[tuple[str, str]]) -> list[str]:
    lines = [f"stage 3: image {image_id}: {reason}" for image_id, reason in excluded[:_SHOWN]]
    advice = "mend them, or leave them out with --set data.on_problem=exclude and another --out"
    return [*lines, f"stage 3: {len(excluded)} images cannot be read; {advice}"]

"""Pseudo-labels as a YOLO folder: 8-bit PNGs at network size and text labels. Lives only inside a stage 3 run.

YOLO's label files know boxes alone. An ignore region (iscrowd) is no box and is not written; an image that has ignore
regions and no box is no normal either, so it is left out and counted.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from cxr.boxes import Boxes, clip_boxes
from cxr.coco import CocoBoxes
from cxr.config import UserError
from cxr.images import read_image, write_png8
from cxr.runs import atomic_write_text
from stage3_detect.config import DataSettings
from stage3_detect.preprocess import to_net

log = logging.getLogger("raybox")

_LAYOUT = 2
"""Number of this file layout; a folder of another one is written anew."""


_NUM_THREADS = 4
"""Decoding releases the interpreter, so threads help."""


@dataclass(frozen=True)
class YoloFolder:
    """A finished folder. `excluded` names each image that could not be read and why.

    num_doubtful: images left out because they have ignore regions and no box. num_regions: ignore regions of the images
    that were taken, which nothing tells the detector.
    """

    data_yaml: Path
    num_positives: int
    num_normals: int
    num_held_out: int
    excluded: tuple[tuple[str, str], ...]
    num_doubtful: int = 0
    num_regions: int = 0


@dataclass(frozen=True)
class _Item:
    split: str
    number: int
    image_id: str
    path: Path
    region: Any


def select_images(pseudo: CocoBoxes, settings: DataSettings, *, seed: int) -> tuple[list[str], list[str]]:
    """Image ids with boxes, and a fixed draw of those without; both in order of a hash of (seed, image id).

    The order depends on nothing else, so adding images changes no other image's place. Ignore regions are no boxes, and
    an image with one is no normal.
    """
    with_strong, with_any = set(_strong(pseudo, settings)["image_id"]), set(pseudo.boxes["image_id"])
    ordered = sorted(pseudo.images["image_id"], key=lambda image_id: _hash_of(seed, image_id))
    positives = [image_id for image_id in ordered if image_id in with_strong]
    normals = [image_id for image_id in ordered if image_id not in with_any]
    return positives, normals[: round(settings.normals_per_positive * len(positives))]


def _strong(coco: CocoBoxes, settings: DataSettings) -> pd.DataFrame:
    """The boxes to learn from: no ignore region, and a score that is high enough (or none, as of readers)."""
    return coco.boxes[~(coco.boxes["score"] < settings.min_pseudo_score) & ~coco.is_ignored]


def _doubtful(coco: CocoBoxes) -> set[str]:
    """Images with ignore regions and no box."""
    ignored = coco.is_ignored
    return set(coco.boxes.loc[ignored, "image_id"]) - set(coco.boxes.loc[~ignored, "image_id"])


def hold_out(image_ids: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """(train, held out): the first `share` of the order is held out, at least one of two or more images."""
    count = min(max(1, round(share * len(image_ids))), len(image_ids) - 1) if image_ids else 0
    return list(image_ids[count:]), list(image_ids[:count])


def write_yolo_folder(
    folder: Path,
    pseudo: CocoBoxes,
    settings: DataSettings,
    *,
    tune: CocoBoxes | None,
    channels: int,
    seed: int,
) -> YoloFolder:
    """Write training and validation files, or take the folder as it is when it is complete and of the same recipe.

    Args:
        pseudo: training images with boxes; those without a box are the normals.
        tune: reader boxes to validate on, or None to hold out a part of the pseudo-labels.
        channels: 1 (grey) or 3 (grey replicated), as the network wants it.

    Raises:
        UserError: no image has a box, or images cannot be read and `settings.on_problem` is "error".
    """
    recipe = _recipe(pseudo, settings, tune=tune, channels=channels, seed=seed)
    marker = folder / "dataset.json"
    if marker.is_file():
        found = _read_marker(marker)
        if found.get("recipe") == recipe:
            return _from_marker(folder, found)
        shutil.rmtree(folder)
    splits = _splits(pseudo, settings, tune=tune, seed=seed)
    excluded = [
        problem
        for split, (coco, image_ids) in splits.items()
        for problem in _write_split(folder, split, coco, image_ids, settings)
    ]
    if excluded and settings.on_problem == "error":
        raise UserError(_excluded_lines(excluded))
    for image_id, reason in excluded:
        log.warning("stage3: left out %s: %s", image_id, reason)
    facts = {"recipe": recipe, "excluded": excluded, **_counts(splits, excluded)}
    description = {"train": "images/train", "val": "images/val", "channels": channels}
    names = dict(enumerate(pseudo.findings))
    atomic_write_text(folder / "data.yaml", yaml.safe_dump({**description, "names": names}))
    atomic_write_text(marker, json.dumps(facts, indent=1))
    return _from_marker(folder, facts)


def label_lines(boxes: Boxes, classes: Sequence[int], image_px: int) -> str:
    """YOLO text: class, centre x, centre y, width, height as shares of the network input, one box a line."""
    lines = []
    for (x1, y1, x2, y2), index in zip(boxes / image_px, classes, strict=True):
        lines.append(f"{index} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}\n")
    return "".join(lines)


def _splits(
    pseudo: CocoBoxes, settings: DataSettings, *, tune: CocoBoxes | None, seed: int
) -> dict[str, tuple[CocoBoxes, list[str]]]:
    positives, normals = select_images(pseudo, settings, seed=seed)
    if not positives:
        raise UserError(
            "stage 3: no image has a pseudo-box; lower data.min_pseudo_score or look at stage 2's run"
        )
    if tune is not None:
        doubtful = _doubtful(tune)
        known = [image_id for image_id in tune.images["image_id"] if image_id not in doubtful]
        return {"train": (pseudo, [*positives, *normals]), "val": (tune, known)}
    kept, held = zip(*(hold_out(part, settings.holdout_share) for part in (positives, normals)), strict=True)
    return {
        "train": (pseudo, [i for part in kept for i in part]),
        "val": (pseudo, [i for part in held for i in part]),
    }


def _write_split(
    folder: Path,
    split: str,
    coco: CocoBoxes,
    image_ids: Iterable[str],
    settings: DataSettings,
) -> list[tuple[str, str]]:
    for name in (f"images/{split}", f"labels/{split}", "partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    boxes_of = dict(tuple(_strong(coco, settings).groupby("image_id", sort=False)))
    class_of = {name: index for index, name in enumerate(coco.findings)}
    rows = coco.images.set_index("image_id")
    root = Path(coco.info["data_root"])
    items = [
        _Item(split, number, image_id, root / rows.at[image_id, "path"], rows.at[image_id, "region"])
        for number, image_id in enumerate(image_ids)
    ]
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        problems = pool.map(
            lambda item: _write_item(folder, item, boxes_of.get(item.image_id), class_of, settings.image_px),
            items,
        )
    return [problem for problem in problems if problem is not None]


def _write_item(
    folder: Path, item: _Item, boxes: pd.DataFrame | None, class_of: dict[str, int], image_px: int
) -> tuple[str, str] | None:
    """Write one picture and its labels; each appears whole or not at all, so an interrupted folder can go on."""
    stem = f"{item.number:07d}"
    picture, label = folder / f"images/{item.split}/{stem}.png", folder / f"labels/{item.split}/{stem}.txt"
    if picture.is_file() and label.is_file():
        return None
    try:
        image = read_image(item.path, region=item.region)
    except UserError as error:
        return item.image_id, " ".join(error.problems)
    net, resize = to_net(image, image_px)
    table = boxes if boxes is not None else pd.DataFrame(columns=["x1", "y1", "x2", "y2", "finding"])
    corners = clip_boxes(table[["x1", "y1", "x2", "y2"]].to_numpy(dtype=np.float64), resize.image_hw)
    classes = [class_of[name] for name in table["finding"]]
    atomic_write_text(label, label_lines(resize.boxes_to_net(corners), classes, image_px))
    partial = folder / "partial" / f"{item.split}_{stem}.png"
    write_png8(partial, net.astype(np.float32) / 255)
    partial.replace(picture)
    return None


def _recipe(
    pseudo: CocoBoxes, settings: DataSettings, *, tune: CocoBoxes | None, channels: int, seed: int
) -> dict[str, Any]:
    tables = {"pseudo": _table_hash(pseudo), "tune": _table_hash(tune) if tune is not None else None}
    return {
        "layout": _LAYOUT,
        **settings.model_dump(mode="json"),
        **tables,
        "channels": channels,
        "seed": seed,
    }


def _table_hash(coco: CocoBoxes) -> str:
    text = coco.images.to_csv(index=False) + coco.boxes.to_csv(index=False) + repr(coco.findings)
    return hashlib.sha256((text + str(coco.info.get("data_root"))).encode()).hexdigest()


def _hash_of(seed: int, image_id: str) -> str:
    return hashlib.sha256(f"{seed}:{image_id}".encode()).hexdigest()


def _counts(
    splits: dict[str, tuple[CocoBoxes, list[str]]], excluded: Sequence[tuple[str, str]]
) -> dict[str, int]:
    bad = {image_id for image_id, _ in excluded}
    coco, train_ids = splits["train"]
    with_box = set(coco.boxes.loc[~coco.is_ignored, "image_id"])
    used = [image_id for image_id in train_ids if image_id not in bad]
    positives = sum(image_id in with_box for image_id in used)
    held = sum(image_id not in bad for image_id in splits["val"][1])
    sources = {id(part): part for part, _ in splits.values()}.values()
    return {
        "num_positives": positives,
        "num_normals": len(used) - positives,
        "num_held_out": held,
        "num_doubtful": sum(len(_doubtful(part)) for part in sources),
        "num_regions": sum(
            int((part.is_ignored & part.boxes["image_id"].isin(set(ids) - bad).to_numpy()).sum())
            for part, ids in splits.values()
        ),
    }


def _read_marker(marker: Path) -> dict[str, Any]:
    """What a marker says; nothing where a kill left half of it."""
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _from_marker(folder: Path, facts: dict[str, Any]) -> YoloFolder:
    excluded = tuple((image_id, reason) for image_id, reason in facts["excluded"])
    names = ("num_positives", "num_normals", "num_held_out", "num_doubtful", "num_regions")
    return YoloFolder(folder / "data.yaml", excluded=excluded, **{name: facts[name] for name in names})


def _excluded_lines(excluded: Sequence[tuple[str, str]]) -> list[str]:
    lines = [f"stage 3: image {image_id}: {reason}" for image_id, reason in excluded[:20]]
    advice = "mend them, or leave them out with --set data.on_problem=exclude"
    return [*lines, f"stage 3: {len(excluded)} images cannot be read; {advice}"]

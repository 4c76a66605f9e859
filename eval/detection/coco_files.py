"""Read COCO files of any tool: ground truth, and predictions as a full file or a list of results.

`cxr.coco.read_coco` reads the files of this project. Here only the fields of the COCO standard are required, and all
problems of a file are reported at once.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cxr.coco import IMAGE_FIELDS, CocoBoxes, boxes_table
from cxr.config import UserError
from cxr.input_files import read_json
from cxr.labels import nearest
from cxr.masks import Mask, mask_of_segmentation

ADVICE = "give a COCO JSON file"

MAX_SHOWN = 10
"""Problems that an error lists; the others are counted."""

MAX_PIXELS = 1e7
"""Largest coordinate of a box; the areas of much larger boxes would overflow."""

Ids = Mapping[Hashable, str]
"""Id in a file -> name."""


@dataclass(frozen=True)
class TruthFile:
    """Ground truth and the ids by which predictions refer to it.

    coco: the boxes. entries: the file's list of images. images: id -> image_id of `coco`. classes: id -> class name.
    """

    coco: CocoBoxes
    entries: list[dict[str, Any]]
    images: Ids
    classes: Ids


def read_truth(path: Path) -> TruthFile:
    """Read ground truth with images, categories and annotations.

    Images are named by "image_id" (a field of this project), else by their file name, else by their id: the first that
    all images have and that is unique. The column "iscrowd" marks ignore regions.

    Raises:
        UserError: no such file, not JSON, missing fields, invalid boxes or masks, boxes of unknown images or classes.
    """
    document = read_json(path, what="COCO", advice=ADVICE)
    missing = {"images", "categories", "annotations"} - set(document if isinstance(document, dict) else ())
    if missing:
        raise UserError(f"{path}: lacks {', '.join(sorted(missing))}; ground truth needs a full COCO file")
    entries = _listed(document, "images", path=path)
    classes = _class_names(document, path=path)
    images = {entry["id"]: str(name) for entry, name in zip(entries, _image_names(entries), strict=True)}
    if len(set(classes.values())) < len(classes):
        raise UserError(f"{path}: two classes have the same name; class names must be unique")
    annotations = document["annotations"]
    rows = _rows(annotations, (images, classes), path=path, scored=False)
    boxes = boxes_table(rows)
    boxes["iscrowd"] = [int(bool(entry.get("iscrowd", 0))) for entry in annotations]
    sizes = [(entry.get("width") or 0, entry.get("height") or 0) for entry in entries]
    table = pd.DataFrame(
        [
            (name, str(entry.get("file_name", "")), str(entry.get("region", "full")), *size)
            for entry, name, size in zip(entries, images.values(), sizes, strict=True)
        ],
        columns=IMAGE_FIELDS,
    )
    masks = _masks(
        annotations, {entry["id"]: (size[1], size[0]) for entry, size in zip(entries, sizes, strict=True)}, path
    )
    if any(masks):
        boxes["mask"] = pd.Series(masks, dtype=object)
    info = document.get("info")
    coco = CocoBoxes(table, boxes, tuple(classes.values()), info if isinstance(info, dict) else {})
    return TruthFile(coco, entries, images, classes)


def _masks(
    annotations: list[dict[str, Any]], sizes_hw: Mapping[Hashable, tuple[int, int]], path: Path
) -> list[Mask | None]:
    """The mask of each annotation; one UserError for all that are none.

    sizes_hw: id of an image -> height and width.
    """
    masks: list[Mask | None] = []
    problems = []
    for index, entry in enumerate(annotations):
        try:
            masks.append(mask_of_segmentation(entry.get("segmentation"), sizes_hw[entry["image_id"]]))
        except (TypeError, ValueError) as error:
            problems.append(f"{path}: box {index + 1}: segmentation: {error}")
    _refuse(problems)
    return masks


def read_predictions(path: Path, truth: TruthFile) -> CocoBoxes:
    """Read scored boxes: a list of {image_id, category_id, bbox, score}, or a full COCO file.

    A bare list uses the ids of the ground truth. A full file is joined by the names of its classes, and by "image_id",
    file name or id of its images: the first that both files have.

    Raises UserError as `read_truth` does, and for a missing or infinite score.
    """
    document = read_json(path, what="COCO", advice=ADVICE)
    if isinstance(document, dict) and "annotations" not in document:
        raise UserError(f"{path}: lacks annotations; give a COCO file or a list of scored boxes")
    images, classes, annotations = truth.images, truth.classes, document
    if isinstance(document, dict):
        annotations = document["annotations"]
        if "images" in document:
            images = _shared_images(_listed(document, "images", path=path), annotations, truth, path=path)
        if "categories" in document:
            classes = _shared_classes(_class_names(document, path=path), annotations, truth, path=path)
    rows = _rows(annotations, (images, classes), path=path, scored=True)
    return truth.coco.with_boxes(boxes_table(rows))


def _listed(document: Mapping[str, Any], name: str, *, path: Path) -> list[dict[str, Any]]:
    entries = document[name]
    if not isinstance(entries, list):
        raise UserError(f"{path}: {name} is {type(entries).__name__}, expected a list")
    problems = [
        f"{path}: {name}[{index}] has no id"
        for index, entry in enumerate(entries)
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), (int, float, str))
    ]
    _refuse(problems)
    times = Counter(entry["id"] for entry in entries).items()
    _refuse([f"{path}: {name} lists the id {id_!r} {n} times; ids must be unique" for id_, n in times if n > 1])
    return entries


def _class_names(document: Mapping[str, Any], *, path: Path) -> dict[Hashable, str]:
    entries = _listed(document, "categories", path=path)
    return {entry["id"]: str(entry.get("name", entry["id"])) for entry in entries}


def _shared_classes(names: Ids, annotations: Any, truth: TruthFile, *, path: Path) -> Ids:
    """Class id in a full prediction file -> name, of the classes that the ground truth has.

    Raises:
        UserError: a box has a class that the ground truth lacks; all such classes are named.
    """
    known = set(truth.classes.values())
    entries = annotations if isinstance(annotations, list) else []
    used = Counter(names.get(_id_of(entry, "category_id")) for entry in entries)
    _refuse(
        [
            f"{path}: class {name!r} of {num} boxes is not in the ground truth{nearest(name, sorted(known))}; rename it"
            for name, num in used.items()
            if name is not None and name not in known
        ]
    )
    return {id_: name for id_, name in names.items() if name in known}


def _id_of(entry: Any, field: str) -> Hashable:
    """The id in an entry; None if there is none that can be one."""
    value = entry.get(field) if isinstance(entry, dict) else None
    return value if isinstance(value, (int, float, str)) else None


def _image_names(entries: list[dict[str, Any]]) -> list[Hashable]:
    for field in ("image_id", "file_name"):
        names = [entry.get(field) for entry in entries]
        if None not in names and len(set(names)) == len(names):
            return names
    return [entry["id"] for entry in entries]


def _shared_images(entries: list[dict[str, Any]], annotations: Any, truth: TruthFile, *, path: Path) -> Ids:
    """Image id in a full prediction file -> image_id of the ground truth.

    Raises:
        UserError: no image is in the ground truth, or boxes lie on images that are not; these are named.
    """
    for field in ("image_id", "file_name"):
        names = [entry.get(field) for entry in entries]
        theirs = {entry.get(field): truth.images[entry["id"]] for entry in truth.entries}
        if None in names or None in theirs or len(theirs) < len(truth.entries):
            continue
        # No fallback to the ids when all names differ: equal numbers could silently pair different images.
        if names and not any(name in theirs for name in names):
            raise UserError(
                f"{path}: no {field} of its images is in the ground truth (for instance {names[0]!r}); "
                "give predictions for the same images"
            )
        others = {e["id"]: n for e, n in zip(entries, names, strict=True) if n not in theirs}
        marked = {_id_of(entry, "image_id") for entry in (annotations if isinstance(annotations, list) else [])}
        _refuse(
            [
                f"{path}: boxes on image {name!r}, whose {field} is not in the ground truth; give predictions for the "
                "same images"
                for id_, name in others.items()
                if id_ in marked
            ]
        )
        return {e["id"]: theirs[n] for e, n in zip(entries, names, strict=True) if n in theirs}
    return dict(truth.images)


def _rows(annotations: Any, known: tuple[Ids, Ids], *, path: Path, scored: bool) -> list[tuple[object, ...]]:
    """Rows for `boxes_table`; one UserError for all invalid entries."""
    if not isinstance(annotations, list):
        raise UserError(f"{path}: annotations are {type(annotations).__name__}, expected a list")
    problems: list[str] = []
    rows: list[tuple[object, ...]] = []
    for index, entry in enumerate(annotations):
        reason = _wrong(entry, known, scored=scored)
        if reason:
            problems.append(f"{path}: box {index + 1}: {reason}")
            continue
        x, y, width, height = entry["bbox"]
        score = float(entry["score"]) if scored else math.nan
        names = (known[0][entry["image_id"]], known[1][entry["category_id"]])
        rows.append((*names, x, y, x + width, y + height, score))
    _refuse(problems)
    return rows


def _wrong(entry: Any, known: tuple[Ids, Ids], *, scored: bool) -> str:
    """Why an entry is not a valid box; "" for a valid one."""
    if not isinstance(entry, dict):
        return f"is {type(entry).__name__}, expected {{image_id, category_id, bbox}}"
    needed = ["image_id", "category_id", "bbox", *(["score"] if scored else [])]
    lacking = [name for name in needed if name not in entry]
    if lacking:
        return f"lacks {', '.join(lacking)}"
    checks: list[tuple[str, Callable[[], bool], str]] = [
        ("image_id", lambda: _is_known(entry["image_id"], known[0]), "an image that the ground truth has"),
        ("category_id", lambda: _is_known(entry["category_id"], known[1]), "a class that the ground truth has"),
        ("bbox", lambda: _is_box(entry["bbox"]), f"x, y, width, height up to {MAX_PIXELS:g}, no negative size"),
        ("iscrowd", lambda: scored or entry.get("iscrowd") in (None, 0, 1), "0 or 1"),
        ("score", lambda: not scored or _is_number(entry["score"]), "a finite number"),
    ]
    wrong = [f"{name} is {entry.get(name)!r}, expected {what}" for name, fits, what in checks if not fits()]
    return "; ".join(wrong)


def _is_known(id_: Any, known: Ids) -> bool:
    return isinstance(id_, (int, float, str)) and id_ in known


def _is_box(bbox: Any) -> bool:
    numbers = isinstance(bbox, list) and len(bbox) == 4 and all(_is_number(value) for value in bbox)
    return numbers and bbox[2] >= 0 and bbox[3] >= 0 and max(map(abs, bbox)) <= MAX_PIXELS


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _refuse(problems: list[str]) -> None:
    """Raise one UserError with the first problems and the number of the others."""
    if len(problems) > MAX_SHOWN:
        source, more = problems[0].split(": ")[0], len(problems) - MAX_SHOWN
        problems = [*problems[:MAX_SHOWN], f"{source}: {more} more problems of this kind"]
    if problems:
        raise UserError(problems)

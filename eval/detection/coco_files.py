"""Read COCO files of any tool: ground truth, and predictions as a full file or a list of results.

`cxr.coco.read_coco` reads the files of this project. Here only the fields of the COCO standard are required, and all
problems of a file are reported at once.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cxr.coco import IMAGE_FIELDS, CocoBoxes, boxes_table
from cxr.config import UserError
from cxr.input_files import read_json
from cxr.labels import nearest
from cxr.masks import Mask, mask_of_segmentation
from eval.detection.coco_checks import Ids, Size, check_pixels, other_sizes, refuse, repeated_boxes, sizes_of, wrong_box

ADVICE = "give a COCO JSON file"


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
        UserError: no such file, not JSON, missing fields, invalid or repeated boxes, boxes far outside
            their images, invalid masks, boxes of unknown images or classes.
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
    known_sizes = sizes_of(entries, source=str(path))
    boxes = boxes_table(_rows(annotations, (images, classes), known_sizes, path=path, scored=False))
    refuse([f"{path}: {problem}" for problem in repeated_boxes(annotations)])
    boxes["iscrowd"] = [int(bool(entry.get("iscrowd", 0))) for entry in annotations]
    sizes = [known_sizes.get(entry["id"], (0, 0)) for entry in entries]
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
    refuse(problems)
    return masks


def read_predictions(path: Path, truth: TruthFile) -> CocoBoxes:
    """Read scored boxes: a list of {image_id, category_id, bbox, score}, or a full COCO file.

    A bare list uses the ids of the ground truth. A full file is joined by the names of its classes, and by "image_id",
    file name or id of its images: the first that both files have.

    Raises UserError as `read_truth` does, for a missing or infinite score, and for images of another size than in the
    ground truth: their boxes would lie elsewhere.
    """
    document = read_json(path, what="COCO", advice=ADVICE)
    if isinstance(document, dict) and "annotations" not in document:
        raise UserError(f"{path}: lacks annotations; give a COCO file or a list of scored boxes")
    images, classes, annotations = truth.images, truth.classes, document
    sizes = sizes_of(truth.entries, source="the ground truth")
    if isinstance(document, dict):
        annotations = document["annotations"]
        if "images" in document:
            entries = _listed(document, "images", path=path)
            images = _shared_images(entries, annotations, truth, path=path)
            sizes = sizes_of(entries, source=str(path))
            refuse([f"{path}: {problem}" for problem in other_sizes(images, sizes, truth.coco.images)])
        if "categories" in document:
            classes = _shared_classes(_class_names(document, path=path), annotations, truth, path=path)
    rows = _rows(annotations, (images, classes), sizes, path=path, scored=True)
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
    refuse(problems)
    times = Counter(entry["id"] for entry in entries).items()
    refuse([f"{path}: {name} lists the id {id_!r} {n} times; ids must be unique" for id_, n in times if n > 1])
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
    refuse(
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
        refuse(
            [
                f"{path}: boxes on image {name!r}, whose {field} is not in the ground truth; give predictions for the "
                "same images"
                for id_, name in others.items()
                if id_ in marked
            ]
        )
        return {e["id"]: theirs[n] for e, n in zip(entries, names, strict=True) if n in theirs}
    return dict(truth.images)


def _rows(
    annotations: Any, known: tuple[Ids, Ids], sizes: Mapping[Hashable, Size], *, path: Path, scored: bool
) -> list[tuple[object, ...]]:
    """Rows for `boxes_table`; one UserError for all invalid entries.

    known: id -> image_id, and id -> class. sizes: id of an image in this file -> its size, where the file gives it.
    """
    if not isinstance(annotations, list):
        raise UserError(f"{path}: annotations are {type(annotations).__name__}, expected a list")
    problems: list[str] = []
    rows: list[tuple[object, ...]] = []
    for index, entry in enumerate(annotations):
        reason = wrong_box(entry, known, sizes, scored=scored)
        if reason:
            problems.append(f"{path}: box {index + 1}: {reason}")
            continue
        x, y, width, height = entry["bbox"]
        score = float(entry["score"]) if scored else math.nan
        names = (known[0][entry["image_id"]], known[1][entry["category_id"]])
        rows.append((*names, x, y, x + width, y + height, score))
    refuse(problems)
    check_pixels(rows, source=str(path))
    return rows

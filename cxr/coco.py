"""COCO JSON: the one box file for ground truth, CAM boxes, pseudo-labels and detections.

In addition to the standard fields an image has ``image_id`` (a text) and ``region``. An annotation has ``score`` if it
is a prediction, and the optional columns below if known. ``iscrowd`` 1 marks an ignore region, as COCO defines it:
boxes in it count neither as right nor as wrong. Standard tools ignore the additional fields.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.arrays import Floats
from cxr.boxes import CORNERS, area, xywh_to_xyxy, xyxy_to_xywh
from cxr.coco_entries import check_entries, check_unique
from cxr.config import UserError
from cxr.input_files import read_json
from cxr.masks import Mask, mask_of_segmentation, mask_to_coco
from cxr.runs.run_folder import atomic_write_text
from cxr.text_columns import store_texts_in_python

store_texts_in_python()

IMAGE_FIELDS = ["image_id", "path", "region", "width", "height"]
BOX_FIELDS = ["image_id", "finding", "x1", "y1", "x2", "y2", "score"]

_NUMBER_FIELDS = ["votes", "confidence"]
_TEXT_FIELDS = ["reader", "method", "ignored_by"]

Label = int | None
"""1 positive, 0 negative, -1 uncertain, None not mentioned."""


@dataclass(frozen=True)
class CocoBoxes:
    """Boxes of a set of images.

    images: columns image_id, path (relative to ``info["data_root"]``), region, width, height (pixels of the region);
        optionally
        patient_id: "" if unknown.
        labels: a dict finding -> 1 (positive), 0 (negative), -1 (uncertain) or None (not mentioned).
        complete: True if the boxes of all findings with label 1 or 0 are complete (readers' corrections).
        num_readers: how many readers read the image, also those who marked nothing.
    boxes: columns image_id, finding, x1, y1, x2, y2 (pixels), score in [0, 1] or NaN; optionally
        iscrowd: 1 for an ignore region, 0 for a box; no column means that there are only boxes.
        ignored_by: why a pseudo-box is an ignore region; "" for a box.
        confidence: calibrated probability that a pseudo-box is right. method: the CAM method that predicted it.
        votes: number of readers who marked it. reader: the reader who marked it ("" unknown).
        mask: the `cxr.masks.Mask` that the box encloses, in the size of the image; the field ``segmentation``.
    findings: the classes in order, including those without a box.
    """

    images: pd.DataFrame
    boxes: pd.DataFrame
    findings: tuple[str, ...]
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def groups(self) -> list[str]:
        """(N,) unit that a bootstrap resamples, per image: the patient, or the image if the patient is unknown."""
        ids = self.images["image_id"]
        if "patient_id" not in self.images:
            return [str(image_id) for image_id in ids]
        patients = self.images["patient_id"]
        return [str(group) for group in patients.where(patients != "", ids)]

    @property
    def is_ignored(self) -> npt.NDArray[np.bool_]:
        """(N,) True for each row of `boxes` that is an ignore region."""
        if "iscrowd" not in self.boxes:
            return np.zeros(len(self.boxes), dtype=np.bool_)
        return np.asarray(self.boxes["iscrowd"].to_numpy(dtype=np.int64) != 0)

    @cached_property
    def label_matrix(self) -> Floats | None:
        """(N, K) labels: 1, 0, -1, or NaN if the class is not mentioned. None if the images have no labels."""
        if "labels" not in self.images:
            return None
        labels = [own if isinstance(own, dict) else {} for own in self.images["labels"]]
        table = pd.DataFrame(labels, index=range(len(labels)), columns=list(self.findings))
        return np.asarray(table.astype(np.float64).to_numpy())

    def without_ignored(self) -> "CocoBoxes":
        """These boxes without the ignore regions."""
        return self.with_boxes(self.boxes[~self.is_ignored].reset_index(drop=True))

    def with_boxes(self, boxes: pd.DataFrame) -> "CocoBoxes":
        """The same images and findings with other boxes."""
        other = replace(self, boxes=boxes)
        if "label_matrix" in vars(self):  # computed once per table of images
            vars(other)["label_matrix"] = self.label_matrix
        return other

    def select(self, image_ids: Iterable[str]) -> "CocoBoxes":
        """The given images and their boxes, in the order of the tables."""
        wanted = set(image_ids)
        kept = self.images["image_id"].isin(wanted)
        boxes = self.boxes[self.boxes["image_id"].isin(wanted)].reset_index(drop=True)
        other = replace(self, images=self.images[kept].reset_index(drop=True), boxes=boxes)
        if vars(self).get("label_matrix") is not None:
            vars(other)["label_matrix"] = vars(self)["label_matrix"][kept.to_numpy()]
        return other


def boxes_table(rows: Sequence[tuple[object, ...]] = ()) -> pd.DataFrame:
    """Table with the columns of BOX_FIELDS from row tuples; right dtypes also when empty."""
    table = pd.DataFrame(list(rows), columns=BOX_FIELDS)
    numbers = dict.fromkeys(BOX_FIELDS[2:], np.float64)
    return table.astype({"image_id": object, "finding": object, **numbers})


def write_coco(path: Path, coco: CocoBoxes) -> None:
    """Write the boxes as COCO JSON, atomically."""
    number_of = {image_id: index for index, image_id in enumerate(coco.images["image_id"], start=1)}
    category_of = {name: index for index, name in enumerate(coco.findings, start=1)}
    unknown = sorted(set(coco.boxes["image_id"]) - set(number_of))
    assert not unknown, f"boxes of images that are not listed: {unknown[:3]}"
    document = {
        "info": dict(coco.info),
        "images": [_image_entry(row, number_of) for row in coco.images.to_dict("records")],
        "categories": [{"id": index, "name": name} for name, index in category_of.items()],
        "annotations": _annotations(coco, number_of, category_of),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, json.dumps(document, allow_nan=False))


def _image_entry(row: Mapping[Any, Any], number_of: Mapping[str, int]) -> dict[str, object]:
    entry: dict[str, object] = {
        "id": number_of[row["image_id"]],
        "file_name": str(row["path"]),
        "width": int(row["width"]),
        "height": int(row["height"]),
        "image_id": str(row["image_id"]),
        "region": str(row["region"]),
    }
    if "patient_id" in row:
        entry["patient_id"] = str(row["patient_id"])
    if "labels" in row:
        entry["labels"] = _checked_labels(row["labels"])
    if "complete" in row:
        entry["complete"] = bool(row["complete"])
    if "num_readers" in row:
        entry["num_readers"] = int(row["num_readers"])
    return entry


def _checked_labels(labels: Mapping[str, Any]) -> dict[str, Label]:
    """finding -> integer, or None if not mentioned."""
    checked: dict[str, Label] = {}
    for finding, value in labels.items():
        known = value is not None and not pd.isna(value)
        if known and (value not in (1, 0, -1) or value is True or value is False):
            raise ValueError(f"label {value!r} of {finding}; expected 1, 0, -1 or nothing")
        checked[str(finding)] = int(value) if known else None
    return checked


def _annotations(
    coco: CocoBoxes, number_of: Mapping[str, int], category_of: Mapping[str, int]
) -> list[dict[str, object]]:
    corners = coco.boxes[CORNERS].to_numpy(dtype=np.float64)
    sizes, areas, ignored = xyxy_to_xywh(corners), area(corners), coco.is_ignored
    entries: list[dict[str, object]] = []
    for index, row in enumerate(coco.boxes.to_dict("records")):
        entry: dict[str, object] = {
            "id": index + 1,
            "image_id": number_of[row["image_id"]],
            "category_id": category_of[row["finding"]],
            "bbox": [round(float(value), 4) for value in sizes[index]],
            "area": round(float(areas[index]), 4),
            "iscrowd": int(ignored[index]),
        }
        if isinstance(mask := row.get("mask"), Mask):
            entry["segmentation"] = mask_to_coco(mask)
        for name in ("score", *_NUMBER_FIELDS, *_TEXT_FIELDS):
            value = row.get(name)
            if value is not None and value != "" and not pd.isna(value):
                entry[name] = value if isinstance(value, str) else float(value)
        entries.append(entry)
    return entries


def read_coco(path: Path) -> CocoBoxes:
    """Read a COCO file with images, categories and annotations.

    An optional column exists if at least one entry has it (iscrowd: if at least one is not 0).

    Raises:
        UserError: no such file, not JSON, or an entry lacks a field, is invalid, or refers to an unknown image or
            category.
    """
    document = read_json(path, what="COCO", advice="give a COCO JSON file")
    try:
        return _from_document(document)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = str(error) if isinstance(error, ValueError) else f"a missing or invalid field: {error!r}"
        raise UserError(f"COCO: {path} is damaged: {reason}; make it again, or see cxr/coco.py") from None


def _from_document(document: Mapping[str, Any]) -> CocoBoxes:
    check_entries(document)
    entries = document["images"]
    text_id = {entry["id"]: str(entry.get("image_id", Path(entry["file_name"]).stem)) for entry in entries}
    check_unique(text_id.values(), "images with the image_id")
    names = {entry["id"]: str(entry["name"]) for entry in document["categories"]}
    boxes = _boxes_of(document["annotations"], entries, text_id, names)
    return CocoBoxes(_images_of(entries, text_id), boxes, tuple(names.values()), dict(document.get("info", {})))


def _images_of(entries: Sequence[Mapping[str, Any]], text_id: Mapping[Any, str]) -> pd.DataFrame:
    rows = [(text_id[e["id"]], e["file_name"], e.get("region", "full"), e["width"], e["height"]) for e in entries]
    images = pd.DataFrame(rows, columns=IMAGE_FIELDS)
    if any("patient_id" in entry for entry in entries):
        images["patient_id"] = [str(entry.get("patient_id", "")) for entry in entries]
    if any("labels" in entry for entry in entries):
        labels = [_checked_labels(entry.get("labels", {})) for entry in entries]
        images["labels"] = pd.Series(labels, dtype=object)
    if any("complete" in entry for entry in entries):
        images["complete"] = [bool(entry.get("complete", False)) for entry in entries]
    if any("num_readers" in entry for entry in entries):
        images["num_readers"] = [int(entry.get("num_readers", 1)) for entry in entries]
    return images


def _boxes_of(
    annotations: Sequence[Mapping[str, Any]],
    images: Sequence[Mapping[str, Any]],
    text_id: Mapping[Any, str],
    names: Mapping[Any, str],
) -> pd.DataFrame:
    corners = xywh_to_xyxy([entry["bbox"] for entry in annotations])
    rows = [
        (text_id[e["image_id"]], names[e["category_id"]], *box, e.get("score", np.nan))
        for e, box in zip(annotations, corners, strict=True)
    ]
    boxes = boxes_table(rows)
    if any(entry.get("iscrowd") for entry in annotations):
        boxes["iscrowd"] = [int(bool(entry.get("iscrowd"))) for entry in annotations]
    for name in _NUMBER_FIELDS:
        if any(name in entry for entry in annotations):
            boxes[name] = np.array([entry.get(name, np.nan) for entry in annotations], dtype=np.float64)
    for name in _TEXT_FIELDS:
        if any(name in entry for entry in annotations):
            boxes[name] = [str(entry.get(name, "")) for entry in annotations]
    if any(entry.get("segmentation") for entry in annotations):
        sizes = {text_id[entry["id"]]: (int(entry["height"]), int(entry["width"])) for entry in images}
        masks = [
            mask_of_segmentation(entry.get("segmentation"), sizes[text_id[entry["image_id"]]]) for entry in annotations
        ]
        boxes["mask"] = pd.Series(masks, dtype=object)
    return boxes

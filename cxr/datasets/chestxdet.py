"""ChestX-Det and ChestX-Det10: NIH ChestX-ray14 images with boxes (and polygons) of findings by three radiologists.

Sources: Lian et al. 2021 (IEEE TMI), github.com/Deepwise-AILab/ChestX-Det-Dataset, 3,578 images, 13 findings; Liu et
al. 2020, arXiv:2006.10550, github.com/Deepwise-AILab/ChestX-Det10-Dataset, 3,543 images, 10 findings. NIH's
acknowledgement for the images; the repositories state no licence for the annotations.

As released: ``ChestX_Det_train.json`` and ``ChestX_Det_test.json``, or ``train.json`` and ``test.json`` for Det10: a
list of ``{"file_name": "36204.png", "syms": [...], "boxes": [[x1, y1, x2, y2], ...]}``, with ``"polygons"`` (a list of
points per box) in ChestX-Det. The images of the archives ``train_data.zip`` and ``test_data.zip`` are found by their
name in a folder whose name begins with train or test.

Quirks of the release, and what this module does about them:

- Every image was read for all findings: an image without boxes is negative (0) for all of them, and "No Finding" is not
  said, because other findings were not asked for.
- Images have new numbers, not NIH's names: patients are unknown, `patient_id` is "".
- Boxes and polygons are in pixels of the 1024 x 1024 image and are scaled to the size of the file.
- A box in ChestX-Det keeps the mask of its polygon (`cxr.tables.MASK_COLUMN`).
- `image_id` begins with the part, ``train_36204``, so that a number may occur in both.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from cxr.config import UserError
from cxr.datasets.assemble import DUPLICATE_ROW, RawTables, assemble
from cxr.datasets.box_rows import Column, labels_of_boxes, named_boxes
from cxr.datasets.files_on_disk import find_images, require_folder
from cxr.datasets.keyed_rows import CONTRADICTION
from cxr.datasets.text_files import ADVICE
from cxr.input_files import read_json
from cxr.labels.release_names import CHESTXDET10_NAMES, CHESTXDET_NAMES
from cxr.masks import Mask, mask_of_polygons
from cxr.tables import MASK_COLUMN, Dataset, DataSettings, Problems, image_table

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
NAMES = {"ChestX_Det_{}.json": CHESTXDET_NAMES, "{}.json": CHESTXDET10_NAMES}
"""File of annotations -> names of findings. The first release whose files exist counts."""

FRAME_PX = 1024

BAD_ENTRY = "entry without a file_name, or whose syms, boxes and polygons do not fit each other"

Row = tuple[str, str, list[float], Mask | None]


class ChestxdetData(DataSettings):
    """The folder of ChestX-Det or ChestX-Det10."""

    dataset: Literal["chestxdet"] = "chestxdet"
    splits: tuple[Split, ...] | None = None
    """Parts to load. None: all that exist."""

    def read(self) -> Dataset:
        """Load the annotations and find the images."""
        require_folder(self.root, source="chestxdet")
        problems = Problems(self.on_problem, source="chestxdet")
        pattern, splits = _release(self.root, self.splits)
        images, rows = [], []
        for split in splits:
            path = self.root / pattern.format(split)
            own_ids, own_rows = _entries(path, split, problems)
            images.append(_images(self.root, split, own_ids))
            rows += own_rows
        table = pd.concat(images, ignore_index=True)
        boxes = _boxes(rows, pattern, problems)
        labels = labels_of_boxes(table["image_id"], boxes, NAMES[pattern].values())
        return assemble(RawTables(table, labels, boxes), self, problems, name="chestxdet")


def _release(root: Path, wanted: tuple[Split, ...] | None) -> tuple[str, list[Split]]:
    """The name of the annotations' files, and the parts to read."""
    for pattern in NAMES:
        there = [split for split in SPLITS if (root / pattern.format(split)).is_file()]
        if there:
            return pattern, list(wanted or there)
    files = " or ".join(pattern.format("train") for pattern in NAMES)
    raise UserError(f"chestxdet: no {files} in {root}; correct `root`")


def _entries(path: Path, split: Split, problems: Problems) -> tuple[list[str], list[Row]]:
    """File names of the images, and a row per box: image_id, name, corners, mask. None of an image with two entries
    that differ.
    """
    entries = read_json(path, what="data", advice=ADVICE)
    if not isinstance(entries, list):
        raise UserError(f"data: {path} is not a list of images; is it another file?")
    first: dict[str, int] = {}
    rows: dict[str, list[Row]] = {}
    for number, entry in enumerate(entries):
        try:
            own = _rows(entry, split)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            problems.add(f"{path.name}, entry {number} ({error!r})", BAD_ENTRY)
            continue
        name = str(entry["file_name"])
        if name not in first:
            first[name], rows[name] = number, own
            continue
        differs = entry != entries[first[name]]
        reason = CONTRADICTION if differs else DUPLICATE_ROW
        problems.add(f"{name} ({path.name}, entries {first[name]} and {number})", reason)
        if differs:
            rows.pop(name, None)
    return list(rows), [row for own in rows.values() for row in own]


def _rows(entry: Any, split: Split) -> list[Row]:
    image_id = _image_id(entry["file_name"], split)
    names, boxes = entry["syms"], entry["boxes"]
    polygons = entry.get("polygons", [None] * len(boxes))
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    if not len(names) == len(corners) == len(boxes) == len(polygons):
        raise ValueError(f"{len(names)} syms, {len(boxes)} boxes, {len(polygons)} polygons")
    return [
        (image_id, str(name), box, None if polygon is None else mask_of_polygons([polygon], (FRAME_PX, FRAME_PX)))
        for name, box, polygon in zip(names, corners.tolist(), polygons, strict=True)
    ]


def _image_id(file_name: str, split: Split) -> str:
    return f"{split}_{file_name.rpartition('.')[0] or file_name}"


def _boxes(rows: list[Row], pattern: str, problems: Problems) -> pd.DataFrame:
    ids, names, corners, masks = zip(*rows, strict=True) if rows else ((), (), (), ())
    columns: dict[str, Column] = {"image_id": pd.Series(ids, dtype=str), "frame_h": FRAME_PX, "frame_w": FRAME_PX}
    if any(mask is not None for mask in masks):
        columns[MASK_COLUMN] = pd.Series(masks, dtype=object)
    return named_boxes(pd.Series(names, dtype=str), list(corners), NAMES[pattern], problems, **columns)


def _images(root: Path, split: Split, names: list[str]) -> pd.DataFrame:
    """The image table of one part; files are looked for in the folders whose name begins with the part's."""
    found = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and path.name.startswith(split)):
        found.update({stem: f"{folder.name}/{path}" for stem, path in find_images(folder).items()})
    ids = [_image_id(name, split) for name in names]
    paths = [found.get(name.rpartition(".")[0], f"{split}_data/{split}/{name}") for name in names]
    return image_table(image_id=ids, path=paths, view="frontal", split=split)

"""NIH ChestX-ray14: 112,120 frontal radiographs of 30,805 patients, labels mined from reports, 984 boxes.

Source: Wang et al. 2017, arXiv:1705.02315; NIH Clinical Center. Free use with acknowledgement.

As released: ``images_001/images/*.png`` to ``images_012`` (1024 x 1024, 8 bit; repackagings use one folder),
``Data_Entry_2017_v2020.csv`` (or ``Data_Entry_2017.csv``), ``BBox_List_2017.csv`` (880 images, 8 findings), and
``train_val_list.txt``, ``test_list.txt`` (by patient).

Quirks, and how this module handles them:

- Findings of an image are one cell, separated by bars; a finding that is not named counts as negative (0).
- The box table's header ``Bbox [x,y,w,h],,,`` splits into seven columns over four of numbers: columns are taken by
  position.
- Boxes say "Infiltrate" where labels say "Infiltration": both are "Infiltration".
- Boxes are x, y, width, height in the 1024 x 1024 frame: they are scaled to the size of the file that is there, so
  smaller copies work.
- Images are found by file name anywhere under `root`.
- The first table's ages have a unit ("058Y") and reach 414: over 120 is unknown (NaN, counted).
- With the lists, `split` is "train" or "test"; an image in neither has "".
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cxr.boxes import xywh_to_xyxy
from cxr.config import UserError
from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.files_on_disk import find_images, require_folder
from cxr.datasets.text_cells import (
    ages,
    known_names,
    look_up,
    merge_columns,
    numbers,
    read_text_table,
    require_columns,
    sexes,
)
from cxr.labels import FINDINGS, NIH_NAMES
from cxr.tables import Dataset, DataSettings, Problems, box_table, empty_boxes, image_table

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
BOX_TABLE = "BBox_List_2017.csv"
LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}

FACTS = ["Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender"]

FRAME_PX = 1024

BOX_ONLY_NAMES = frozenset({"Infiltrate"})


class NihData(DataSettings):
    """Where NIH ChestX-ray14 lies."""

    dataset: Literal["nih"] = "nih"

    def read(self) -> Dataset:
        """The data set's tables. UserError as the module's docstring and `on_problem` say."""
        return read_nih(self)


def read_nih(settings: NihData) -> Dataset:
    """Read the label table, the boxes and the lists where they are, and find the images."""
    require_folder(settings.root, source="nih")
    problems = Problems(settings.on_problem, source="nih")
    table = read_text_table(_label_table(settings.root), required=FACTS)
    labels, bad = _labels(table, problems)
    raw = RawTables(_images(table, settings.root, problems), labels, _boxes(settings.root, problems))
    # An image with a name that nobody knows would pass for normal; its boxes go with it.
    for image_id in raw.images.loc[bad, "image_id"]:
        problems.leave_out(image_id, "image with an unknown finding")
    return assemble(raw.keep(~bad) if bad.any() else raw, settings, problems, name="nih")


def _label_table(root: Path) -> Path:
    found = [root / name for name in TABLES if (root / name).is_file()]
    if not found:
        raise UserError(f"nih: no {' or '.join(TABLES)} in {root}; correct `root`")
    return found[0]


def _labels(table: pd.DataFrame, problems: Problems) -> tuple[pd.DataFrame, "pd.Series[bool]"]:
    """One column a finding, and the rows with a name that is unknown."""
    named = table["Finding Labels"].str.split("|").explode().str.strip()
    names = known_names(named, NIH_NAMES, problems)
    unknown = ~named.isin(list(names))
    marked = pd.crosstab(named[~unknown].index, named[~unknown]).reindex(table.index, fill_value=0)
    columns = [name for name in NIH_NAMES if name not in BOX_ONLY_NAMES or name in names]
    values = marked.reindex(columns=columns, fill_value=0).clip(upper=1).astype(np.float64)
    bad = unknown.groupby(level=0).any()
    return merge_columns(values, dict(NIH_NAMES), FINDINGS), bad


def _images(table: pd.DataFrame, root: Path, problems: Problems) -> pd.DataFrame:
    found = find_images(root)
    names = table["Image Index"]
    return image_table(
        image_id=names.str.removesuffix(".png"),
        path=names.map(lambda name: found.get(name, [f"images/{name}"])[0]),
        patient_id=table["Patient ID"],
        # The release has no study; each follow-up is one visit, and has one image.
        study_id=names.str.removesuffix(".png"),
        view="frontal",
        sex=sexes(table["Patient Gender"], problems),
        age=ages(table["Patient Age"], problems),
        split=look_up(names, _split_of_names(root)),
    )


def _split_of_names(root: Path) -> dict[str, str]:
    splits: dict[str, str] = {}
    for name, split in LISTS.items():
        if (root / name).is_file():
            splits.update(dict.fromkeys((root / name).read_text(encoding="utf-8").split(), split))
    return splits


def _boxes(root: Path, problems: Problems) -> pd.DataFrame:
    """Boxes in the 1024 frame, columns by position; none when the table is not there."""
    path = root / BOX_TABLE
    if not path.is_file():
        problems.count(f"no {BOX_TABLE}, so no boxes")
        return empty_boxes()
    table = read_text_table(path)
    require_columns(table, ["Image Index", "Finding Label"], source=str(path))
    if table.shape[1] < 6:
        raise UserError(f"data: {path} has {table.shape[1]} columns, expected image, finding, x, y, w, h")
    names = known_names(table["Finding Label"], NIH_NAMES, problems)
    table = table[table["Finding Label"].isin(list(names))]
    corners = xywh_to_xyxy(np.column_stack([numbers(table.iloc[:, column]) for column in range(2, 6)]))
    boxes = pd.DataFrame(corners, columns=["x1", "y1", "x2", "y2"], index=table.index)
    return box_table(
        boxes.assign(
            image_id=table["Image Index"].str.removesuffix(".png"),
            finding=table["Finding Label"].map(names),
            frame_h=FRAME_PX,
            frame_w=FRAME_PX,
        )
    )

"""NIH ChestX-ray14: 112,120 frontal radiographs of 30,805 patients, labels mined from reports, 984 boxes.

Source: Wang et al. 2017, arXiv:1705.02315; NIH Clinical Center. Free use with acknowledgement.

As released: ``images_001/images/*.png`` to ``images_012`` (1024 x 1024, 8 bit; repackaged copies use one folder),
``Data_Entry_2017_v2020.csv`` or ``Data_Entry_2017.csv``, ``BBox_List_2017.csv`` (880 images, 8 findings), and the
split by patient in ``train_val_list.txt`` and ``test_list.txt``.

Quirks of the release, and what this module does about them:

- One cell lists the findings of an image, separated by bars. A finding that is not listed is negative (0).
- The header of the box table, ``Bbox [x,y,w,h],,,``, has other columns than the rows: columns are taken by position.
- The box table says "Infiltrate", the label table "Infiltration": both become "Infiltration".
- Boxes are x, y, width, height of the 1024 x 1024 image and are scaled to the size of the file, so that smaller
  copies can be used. Image files are found by name anywhere under `root`.
- Ages of the first release have a unit ("058Y") and reach 414: ages over 120 become NaN.
- `split` is "train" or "test" as the lists say, or "" for an image in neither. An image in both lists is an error.
- Google's labels of 4,374 of the images by radiologists can replace NIH's: see `relabels`.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cxr.boxes import xywh_to_xyxy
from cxr.config import UserError
from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.box_rows import named_boxes
from cxr.datasets.files_on_disk import find_images, require_folder
from cxr.datasets.nih_relabels import read_relabels
from cxr.datasets.text_cells import UNKNOWN_FINDING, Mask, ages, listed_labels, look_up, numbers, sexes
from cxr.datasets.text_files import first_table, read_names, read_text_table, require_columns
from cxr.labels import NIH_NAMES
from cxr.tables import Dataset, DataSettings, Problems, empty_boxes, image_table

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
BOX_TABLE = "BBox_List_2017.csv"
LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}
COLUMNS = ["Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender"]

FRAME_PX = 1024


class NihData(DataSettings):
    """The folder of NIH ChestX-ray14."""

    dataset: Literal["nih"] = "nih"
    relabels: tuple[Path, ...] = ()
    """Google's tables of radiologists' labels, see `cxr.datasets.nih_relabels`; relative to `root` and below it, or
    absolute. Only the images that they list are loaded, and only with their four findings; boxes stay."""
    part: Literal["all", "with_boxes", "without_boxes"] = "all"
    """with_boxes: the images that the box table lists, to measure boxes on; in the others nobody looked for boxes.
    without_boxes: the images of patients without any box, to train a classifier on. No patient is in both."""

    def read(self) -> Dataset:
        """Load the label table and, if they exist, the boxes and the lists; find the image files."""
        require_folder(self.root, source="nih")
        problems = Problems(self.on_problem, source="nih")
        table = read_text_table(first_table(self.root, TABLES, source="nih"), required=COLUMNS)
        images = _images(table, self.root, problems)
        if self.relabels:
            labels, sound = read_relabels(self.root, self.relabels, table["Image Index"], problems)
        else:
            labels, sound = _listed(table, images["image_id"], problems)
        boxes = _boxes(self.root, problems)
        wanted = sound & self._in_part(images, boxes, problems)
        return assemble(RawTables(images, labels, boxes), self, problems, name="nih", wanted=wanted)

    def _in_part(self, images: pd.DataFrame, boxes: pd.DataFrame, problems: Problems) -> Mask:
        """(N,) the images of `part`; the others are counted."""
        if self.part == "all":
            return np.ones(len(images), dtype=bool)
        if not (self.root / BOX_TABLE).is_file():
            raise UserError(f"nih: `part: {self.part}` needs {BOX_TABLE} in {self.root}; add it, or set `part: all`")
        has_boxes = images["image_id"].isin(boxes["image_id"])
        if self.part == "without_boxes":
            has_boxes = ~images["patient_id"].isin(images.loc[has_boxes, "patient_id"])
        problems.count(f"images excluded by `part: {self.part}`", int((~has_boxes).sum()))
        return has_boxes.to_numpy()


def _listed(table: pd.DataFrame, image_ids: "pd.Series[str]", problems: Problems) -> tuple[pd.DataFrame, Mask]:
    """Labels from the cells that list findings, and an (N,) mask of the rows whose findings are all known."""
    listed = table["Finding Labels"].str.strip().str.split(r"\s*\|\s*", regex=True)
    labels, bad = listed_labels(listed, NIH_NAMES, problems, columns=NIH_NAMES)
    for image_id in image_ids[bad]:  # it would count as normal
        problems.exclude(image_id, UNKNOWN_FINDING)
    return labels, ~bad


def _images(table: pd.DataFrame, root: Path, problems: Problems) -> pd.DataFrame:
    found = find_images(root)
    names = table["Image Index"]
    return image_table(
        image_id=names.str.removesuffix(".png"),
        path=names.map(lambda name: found.get(name.removesuffix(".png"), f"images/{name}")),
        patient_id=table["Patient ID"],
        study_id=names.str.removesuffix(".png"),  # each follow-up visit has one image
        view="frontal",
        sex=sexes(table["Patient Gender"], problems),
        age=ages(table["Patient Age"], problems),
        split=look_up(names, _split_of_names(root)),
    )


def _split_of_names(root: Path) -> dict[str, str]:
    splits: dict[str, str] = {}
    for list_name, split in LISTS.items():
        if not (root / list_name).is_file():
            continue
        names = read_names(root / list_name)
        if both := [name for name in names if name in splits]:
            raise UserError(
                f"nih: {len(both)} images are in {' and in '.join(LISTS)}, first {both[0]}; give the official lists"
            )
        splits.update(dict.fromkeys(names, split))
    return splits


def _boxes(root: Path, problems: Problems) -> pd.DataFrame:
    """Boxes in pixels of the 1024 x 1024 image; none if there is no box table."""
    path = root / BOX_TABLE
    if not path.is_file():
        problems.count(f"no {BOX_TABLE}, so no boxes")
        return empty_boxes()
    table = read_text_table(path)
    require_columns(table, ["Image Index", "Finding Label"], source=str(path))
    if table.shape[1] < 6:
        raise UserError(f"data: {path} has {table.shape[1]} columns, expected image, finding, x, y, w, h")
    corners = xywh_to_xyxy(np.column_stack([numbers(table.iloc[:, column]) for column in range(2, 6)]))
    image_id = table["Image Index"].str.removesuffix(".png")
    frame = {"frame_h": FRAME_PX, "frame_w": FRAME_PX}
    return named_boxes(table["Finding Label"], corners, NIH_NAMES, problems, image_id=image_id, **frame)

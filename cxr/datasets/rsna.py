"""RSNA Pneumonia Detection Challenge (2018): 26,684 frontal radiographs of NIH ChestX-ray14, boxes by radiologists.

Source: Shih et al. 2019, doi:10.1148/ryai.2019180041; kaggle.com/c/rsna-pneumonia-detection-challenge. Terms: the
competition's rules, and NIH's acknowledgement for the images.

As released (stage 2): ``stage_2_train_labels.csv`` (patientId, x, y, width, height, Target; one row per box),
``stage_2_detailed_class_info.csv`` (patientId, class; optional here) and ``stage_2_train_images/<patientId>.dcm``
(1024 x 1024). Copies as PNG or JPEG are found by their stem anywhere under `root`.

Quirks of the release, and what this module does about them:

- An image without an opacity has one row with blank coordinates and Target 0. Each box repeats Target 1.
- Target is about opacities suspicious of pneumonia: the finding is "Pneumonia" (`cxr.labels.release_names`).
- The class "Normal" is "No Finding"; without the class table that finding has no column.
- `patientId` is the image: an NIH patient has several of them. `nih_map`, a table with the columns rsna_patientId and
  nih_image (``00019124_092.png``), gives the patient. Without it patients are unknown and images are split one by one.
- Boxes are in pixels of the 1024 x 1024 image and are scaled to the size of the file.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cxr.boxes import xywh_to_xyxy
from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.box_rows import named_boxes
from cxr.datasets.files_on_disk import find_images, require_folder
from cxr.datasets.inside_root import inside
from cxr.datasets.keyed_rows import keyed_rows, row_names
from cxr.datasets.text_cells import Mask, blank_rows, numbers
from cxr.datasets.text_files import read_text_table
from cxr.labels import NO_FINDING
from cxr.labels.release_names import RSNA_BOX_NAMES, RSNA_CLASSES
from cxr.tables import Dataset, DataSettings, Problems, image_table

TABLE = "stage_2_train_labels.csv"
CLASS_TABLE = "stage_2_detailed_class_info.csv"
CORNER_COLUMNS = ["x", "y", "width", "height"]
FRAME_PX = 1024

BAD_TARGET = "Target other than 0 without a box or 1 with a box"
TWO_TARGETS = "image with rows of Target 0 and of Target 1"
BAD_CLASS = f"class other than {', '.join(RSNA_CLASSES)}"
NO_NIH_IMAGE = "image that `nih_map` does not list"


class RsnaData(DataSettings):
    """The folder of the challenge's stage 2."""

    dataset: Literal["rsna"] = "rsna"
    nih_map: Path | None = None
    """Table with the NIH image of each patientId, relative to `root` and below it, or absolute. None: patients
    are unknown."""

    def read(self) -> Dataset:
        """Load the box table and, if they exist, the class table and the map to NIH."""
        require_folder(self.root, source="rsna")
        problems = Problems(self.on_problem, source="rsna")
        table = read_text_table(self.root / TABLE, required=["patientId", *CORNER_COLUMNS, "Target"])
        table = _sound_rows(table, problems)
        images = table.drop_duplicates("patientId").reset_index(drop=True)
        ids = images["patientId"]
        labels = pd.DataFrame({"Pneumonia": (images["Target"] == "1").astype(np.float64)})
        unclear = np.zeros(len(ids), dtype=bool)
        if (self.root / CLASS_TABLE).is_file():
            labels[NO_FINDING], unclear = _is_normal(self.root / CLASS_TABLE, ids, problems)
            labels = labels[[NO_FINDING, "Pneumonia"]]
        patients, unknown = _patients(ids, self, problems)
        raw = RawTables(_images(ids, patients, self.root), labels, _boxes(table, problems))
        return assemble(raw, self, problems, name="rsna", wanted=~(unclear | unknown))


def _sound_rows(table: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """The rows of images whose rows agree with each other and with their Target."""
    target = table["Target"].str.strip()
    fits = target == blank_rows(table[CORNER_COLUMNS]).map({True: "0", False: "1"})
    rows = table["patientId"] + ", Target " + table["Target"]
    problems.add_all(rows[~fits], BAD_TARGET)
    mixed = target[fits].groupby(table.loc[fits, "patientId"]).nunique()
    problems.add_all(mixed.index[mixed > 1], TWO_TARGETS)
    bad = {*table.loc[~fits, "patientId"], *mixed.index[mixed > 1]}
    return table.assign(Target=target)[~table["patientId"].isin(bad)].reset_index(drop=True)


def _is_normal(path: Path, image_ids: "pd.Series[str]", problems: Problems) -> "tuple[pd.Series[float], Mask]":
    """(N,) 1 if the class is Normal, 0 if it is another, NaN for an image that the table lacks; and an (N,) mask of the
    images with two classes.
    """
    table = read_text_table(path, required=["patientId", "class"])
    bad = ~table["class"].isin(RSNA_CLASSES)
    problems.add_all((table["patientId"] + ", class " + table["class"])[bad], BAD_CLASS)
    class_of = keyed_rows(table[["class"]], table["patientId"], problems, where=row_names(path, table))
    value = {name: float(name == "Normal") for name in RSNA_CLASSES}
    return class_of.of(image_ids, "class").map(value), class_of.contradicts(image_ids)


def _images(image_ids: "pd.Series[str]", patients: "pd.Series[str]", root: Path) -> pd.DataFrame:
    found = find_images(root)
    paths = [found.get(image_id, f"stage_2_train_images/{image_id}.dcm") for image_id in image_ids]
    return image_table(image_id=image_ids, path=paths, patient_id=patients, view="frontal", split="train")


def _patients(
    image_ids: "pd.Series[str]", settings: RsnaData, problems: Problems
) -> "tuple[pd.Series[str], pd.Series[bool]]":
    """(N,) NIH's patient of each image, "" without a map; and an (N,) mask of the images that it does not list."""
    if settings.nih_map is None:
        problems.count("images of unknown patients, since there is no `nih_map`", len(image_ids))
        return pd.Series("", index=image_ids.index), pd.Series(data=False, index=image_ids.index)
    path = inside(settings.root, settings.nih_map, key="data.nih_map")
    table = read_text_table(path, required=["rsna_patientId", "nih_image"])
    nih_images = keyed_rows(table[["nih_image"]], table["rsna_patientId"], problems, where=row_names(path, table))
    nih_image = nih_images.of(image_ids, "nih_image").str.strip()
    problems.add_all(image_ids[nih_image == ""], NO_NIH_IMAGE)
    unknown = (nih_image == "") | nih_images.contradicts(image_ids)
    return nih_image.str.split("_").str[0].str.lstrip("0"), unknown


def _boxes(table: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    marked = table[table["Target"] == "1"]
    xyxy = xywh_to_xyxy(np.column_stack([numbers(marked[column]) for column in CORNER_COLUMNS]))
    frame = {"frame_h": FRAME_PX, "frame_w": FRAME_PX}
    return named_boxes(marked["Target"], xyxy, RSNA_BOX_NAMES, problems, image_id=marked["patientId"], **frame)

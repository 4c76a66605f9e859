"""A hospital's own CSV table: the settings name its columns.

The table has one row per image: its path, one column per finding and, if known, patient, study, view, sex,
age and split. A second table with one row per box is optional. Example::

    dataset: csv_table
    root: /data/our_hospital
    table: images.csv
    columns: {image: file, patient: pid, view: projection}
    findings: {effusion: Pleural Effusion, big_heart: Cardiomegaly}
    boxes: {table: boxes.csv, image: file, finding: label, x1: left, y1: top, x2: right, y2: bottom}

Requirements; anything else is reported as a problem:

- Paths are relative to `root` and stay below it. The path without its suffix is the image id.
- Each file is listed once, and no two files have the same content: copies could fall into train and test.
- The cell of a finding is 1, 0, -1 (uncertain) or blank (not mentioned).
- `findings` maps the table's names to the findings of ``cxr/labels.py``. The box table uses the same names.
- The view is frontal, PA or AP; lateral, LAT, LL or RL; or blank. Upper and lower case are equal.
- Boxes are in pixels of the file: two corners, or with ``box_format: xywh`` one corner, width and height.

Without `columns.patient` images are split one by one, so two images of a patient may land in different splits.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from cxr.boxes import CORNERS, xywh_to_xyxy
from cxr.config import Settings
from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.files_on_disk import require_folder
from cxr.datasets.inside_root import inside, normal_path
from cxr.datasets.text_cells import ages, finding_labels, known_names, look_up, numbers, sexes
from cxr.datasets.text_files import read_text_table
from cxr.labels import FINDINGS, map_names
from cxr.tables import Dataset, DataSettings, Problems, box_table, empty_boxes, image_table

VIEWS = {
    **dict.fromkeys(("frontal", "pa", "ap"), "frontal"),
    **dict.fromkeys(("lateral", "lat", "ll", "rl"), "lateral"),
    "": "",
}

ENDING = re.compile(r"\.(png|jpe?g|dcm|dicom|dic|tiff?|bmp|gif|webp|jp2)$", re.IGNORECASE)

BAD_VIEW = "unknown view"


class ImageColumns(Settings):
    """Names of the image table's columns. None: the table has no such column."""

    image: str
    """Path of the image, relative to `root`."""
    patient: str | None = None
    study: str | None = None
    view: str | None = None
    sex: str | None = None
    age: str | None = None
    split: str | None = None


class BoxTable(Settings):
    """The table of boxes, one row per box, and the names of its columns."""

    renamed: ClassVar[Mapping[str, str]] = {"form": "box_format"}

    table: Path
    """Relative to `root` and below it, or absolute."""
    image: str
    finding: str
    x1: str
    y1: str
    x2: str
    """Right edge, or the width with ``box_format: xywh``."""
    y2: str
    """Lower edge, or the height with ``box_format: xywh``."""
    reader: str | None = None
    box_format: Literal["xyxy", "xywh"] = "xyxy"
    """xyxy: two corners. xywh: the upper left corner, width and height."""


class CsvTableData(DataSettings):
    """A hospital's own table; for an example see the docstring of this module."""

    dataset: Literal["csv_table"] = "csv_table"
    table: Path
    """Relative to `root` and below it, or absolute."""
    columns: ImageColumns
    findings: dict[str, str] = Field(min_length=1)
    """Column of the table -> finding of cxr/labels.py."""
    boxes: BoxTable | None = None

    def read(self) -> Dataset:
        """Load the image table and, if given, the box table."""
        require_folder(self.root, source="csv_table")
        canonical = map_names(self.findings.values(), {name: name for name in FINDINGS}, source="data.findings")
        names = {column: canonical[finding] for column, finding in self.findings.items()}
        named = [column for column in self.columns.model_dump().values() if column is not None]
        table = read_text_table(inside(self.root, self.table, key="data.table"), required=[*named, *names])
        tables = [self.table] if self.boxes is None else [self.table, self.boxes.table]
        problems = Problems(self.on_problem, source=" and ".join(path.name for path in tables))
        images, bad_view = _images(table, self.columns, problems)
        labels, bad_labels = finding_labels(table[list(names)], names, images["path"], problems)
        boxes = empty_boxes() if self.boxes is None else _boxes(self.root, self.boxes, names, problems)
        raw = RawTables(images, labels, boxes).keep(~(bad_view | bad_labels))
        return assemble(raw, self, problems, name="csv_table", unique_content=True)


def _images(table: pd.DataFrame, columns: ImageColumns, problems: Problems) -> tuple[pd.DataFrame, "pd.Series[bool]"]:
    """The image table, and a mask of the rows with an unknown view."""
    paths = table[columns.image].str.strip().map(normal_path)
    view = table[columns.view].str.strip() if columns.view else pd.Series("", index=table.index, dtype=str)
    bad = ~view.str.lower().isin(list(VIEWS))
    problems.add_all((paths + ", view " + view)[bad], BAD_VIEW)
    given = {"patient_id": columns.patient, "study_id": columns.study, "split": columns.split}
    known = {name: table[column].str.strip() for name, column in given.items() if column is not None}
    if columns.sex is not None:
        known["sex"] = sexes(table[columns.sex], problems)
    if columns.age is not None:
        known["age"] = ages(table[columns.age], problems)
    return image_table(image_id=image_ids(paths), path=paths, view=look_up(view.str.lower(), VIEWS), **known), bad


def image_ids(paths: "pd.Series[str]") -> "pd.Series[str]":
    """Paths without the ending of an image file. The last number of a UID is no ending."""
    return paths.str.replace(ENDING, "", regex=True)


def _boxes(root: Path, columns: BoxTable, names: dict[str, str], problems: Problems) -> pd.DataFrame:
    corners = [columns.x1, columns.y1, columns.x2, columns.y2]
    readers = [] if columns.reader is None else [columns.reader]
    path = inside(root, columns.table, key="data.boxes.table")
    table = read_text_table(path, required=[columns.image, columns.finding, *corners, *readers])
    known = known_names(table[columns.finding], names, problems)
    table = table[table[columns.finding].isin(list(known))]
    xyxy = np.column_stack([numbers(table[corner]) for corner in corners])
    if columns.box_format == "xywh":
        xyxy = xywh_to_xyxy(xyxy)
    boxes = pd.DataFrame(xyxy, columns=CORNERS, index=table.index)
    image_id = image_ids(table[columns.image].str.strip().map(normal_path))
    reader = "" if columns.reader is None else table[columns.reader]
    return box_table(boxes.assign(image_id=image_id, finding=table[columns.finding].map(known), reader=reader))

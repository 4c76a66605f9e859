"""A hospital's own CSV table: the settings say which column is what.

A table with one row per image: its path, one column per finding and, if known, patient, study, view, sex,
age and split. A second table with one row per box is optional. For example::

    dataset: csv_table
    root: /data/our_hospital
    table: images.csv
    columns: {image: file, patient: pid, view: projection}
    findings: {effusion: Pleural Effusion, big_heart: Cardiomegaly}
    boxes: {table: boxes.csv, image: file, finding: label, x1: left, y1: top, x2: right, y2: bottom}

What the table must fulfil; anything else is reported:

- paths are relative to `root`; the path without its ending is the image's id;
- a cell of a finding is 1, 0, -1 (uncertain) or blank (not mentioned);
- `findings` maps the table's names to the findings of ``cxr/labels.py``; the box table uses the same names;
- view is frontal, PA, AP or lateral, LL, RL, LAT (any case), or blank; other words are problems;
- boxes are in pixels of the file: corners, or with ``box_format: xywh`` corner, width, height.

Without `columns.patient` a split can only go by image: two images of one patient may then part.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from cxr.boxes import xywh_to_xyxy
from cxr.config import Settings
from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.files_on_disk import require_folder
from cxr.datasets.text_cells import (
    ages,
    known_names,
    label_values,
    look_up,
    merge_columns,
    numbers,
    read_text_table,
    require_columns,
    sexes,
)
from cxr.labels import FINDINGS, map_names
from cxr.tables import Dataset, DataSettings, Problems, box_table, empty_boxes, image_table

VIEWS = {
    "frontal": "frontal",
    "pa": "frontal",
    "ap": "frontal",
    "lateral": "lateral",
    "lat": "lateral",
    "ll": "lateral",
    "rl": "lateral",
    "": "",
}

BAD_VIEW = "unknown view"


class ImageColumns(Settings):
    """The image table's column of each fact; what is not there is not given."""

    image: str
    """Path of the image, relative to `root`."""

    patient: str | None = None
    study: str | None = None
    view: str | None = None
    sex: str | None = None
    age: str | None = None
    split: str | None = None


class BoxTable(Settings):
    """A second table with one row per box, and its columns."""

    renamed: ClassVar[Mapping[str, str]] = {"form": "box_format"}

    table: Path
    """Relative to `root`."""

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
    """A table of one's own. See the module's docstring for an example."""

    dataset: Literal["csv_table"] = "csv_table"
    table: Path
    """Relative to `root`."""

    columns: ImageColumns
    findings: dict[str, str] = Field(min_length=1)
    """Column of the table -> finding of cxr/labels.py."""

    boxes: BoxTable | None = None

    def read(self) -> Dataset:
        """The data set's tables. UserError as the module's docstring and `on_problem` say."""
        return read_csv_table(self)


def read_csv_table(settings: CsvTableData) -> Dataset:
    """Read the image table and, where given, the box table."""
    require_folder(settings.root, source="csv_table")
    canonical = map_names(settings.findings.values(), {name: name for name in FINDINGS}, source="data.findings")
    names = {column: canonical[finding] for column, finding in settings.findings.items()}
    named = [column for column in settings.columns.model_dump().values() if column is not None]
    table = read_text_table(settings.root / settings.table, required=[*named, *names])
    problems = Problems(settings.on_problem, source=settings.table.name)
    images, bad_view = _images(table, settings.columns, problems)
    values, bad_labels = label_values(table[list(names)], images["path"], problems)
    labels = merge_columns(values, names, FINDINGS)
    boxes = empty_boxes() if settings.boxes is None else _boxes(settings, settings.boxes, names, problems)
    raw = RawTables(images, labels, boxes).keep(~(bad_view | bad_labels))
    return assemble(raw, settings, problems, name="csv_table")


def _images(table: pd.DataFrame, columns: ImageColumns, problems: Problems) -> tuple[pd.DataFrame, "pd.Series[bool]"]:
    """The image table, and the rows whose view is not understood."""
    paths = table[columns.image].str.strip()
    view = table[columns.view].str.strip() if columns.view else pd.Series("", index=table.index, dtype=str)
    bad = ~view.str.lower().isin(list(VIEWS))
    problems.add_all((paths + ", view " + view)[bad], BAD_VIEW)
    given = {"patient_id": columns.patient, "study_id": columns.study, "split": columns.split}
    facts = {name: table[column].str.strip() for name, column in given.items() if column is not None}
    if columns.sex is not None:
        facts["sex"] = sexes(table[columns.sex], problems)
    if columns.age is not None:
        facts["age"] = ages(table[columns.age], problems)
    return image_table(image_id=image_ids(paths), path=paths, view=look_up(view.str.lower(), VIEWS), **facts), bad


def image_ids(paths: "pd.Series[str]") -> "pd.Series[str]":
    """Paths without their endings."""
    return paths.str.replace(r"\.[A-Za-z0-9]+$", "", regex=True)


def _boxes(settings: CsvTableData, columns: BoxTable, names: dict[str, str], problems: Problems) -> pd.DataFrame:
    path = settings.root / columns.table
    corners = [columns.x1, columns.y1, columns.x2, columns.y2]
    table = read_text_table(path, required=[columns.image, columns.finding, *corners])
    known = known_names(table[columns.finding], names, problems)
    table = table[table[columns.finding].isin(list(known))]
    xyxy = np.column_stack([numbers(table[corner]) for corner in corners])
    if columns.box_format == "xywh":
        xyxy = xywh_to_xyxy(xyxy)
    boxes = pd.DataFrame(xyxy, columns=["x1", "y1", "x2", "y2"], index=table.index).assign(
        image_id=image_ids(table[columns.image].str.strip()), finding=table[columns.finding].map(known)
    )
    if columns.reader is not None:
        require_columns(table, [columns.reader], source=str(path))
        boxes = boxes.assign(reader=table[columns.reader])
    return box_table(boxes)

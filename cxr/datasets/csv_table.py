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
- Each file is listed once, and no two files have the same content: copies could fall into train and test. With
  ``duplicates: keep`` they are loaded.
- The cell of a finding is 1, 0, -1 (uncertain) or blank (not mentioned), or a word of `label_values`.
- Numbers may have a decimal comma. Ids of patients that a program has changed, such as 12.0 for 12, are refused.
- Tables are in UTF-8, or in another `encoding`: cp1252 for "CSV" of Excel in Western Europe.
- `findings` maps the table's names to findings: those of ``cxr/labels/findings.py``, of the label file, or new ones
  (docs/data.md). The box table uses the same names.
- The view is frontal, PA, AP or face; lateral, LAT, LL, RL or profil; or blank. Upper and lower case are equal.
- With ``labels_from: boxes`` the image table needs no columns of findings: a finding is 1 where the image has a box of
  it, else 0. Every image must then have been read for all findings.
- Boxes are two corners, or with ``box_format: xywh`` one corner, width and height. They are in pixels of the file. If
  files are smaller copies of the images that were marked, `width` and `height` in `columns` or in `boxes` name the
  columns with the size of the original image, or `box_frame` gives it; boxes are then scaled to the file.

Without `columns.patient` images are split one by one, so two images of a patient may land in different splits.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from cxr.boxes import CORNERS, xywh_to_xyxy
from cxr.config import Settings
from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.box_frames import BoxFrameSettings, frame_source, in_frame
from cxr.datasets.box_rows import labels_of_boxes
from cxr.datasets.files_on_disk import require_folder
from cxr.datasets.inside_root import inside, normal_path
from cxr.datasets.keyed_rows import keyed_rows, row_names
from cxr.datasets.patient_ids import check_patient_ids
from cxr.datasets.text_cells import Mask, ages, finding_labels, known_names, look_up, numbers, sexes
from cxr.datasets.text_files import read_text_table, require_columns
from cxr.input_files import Encoding
from cxr.labels import FindingName
from cxr.tables import Dataset, Problems, box_table, empty_boxes, image_table

VIEWS = {
    **dict.fromkeys(("frontal", "pa", "ap", "face"), "frontal"),
    **dict.fromkeys(("lateral", "lat", "ll", "rl", "profil"), "lateral"),
    "": "",
}

ENDING = re.compile(r"\.(png|jpe?g|dcm|dicom|dic|tiff?|bmp|gif|webp|jp2)$", re.IGNORECASE)

BAD_VIEW = "unknown view"


def _check_size(width: str | None, height: str | None) -> None:
    if (width is None) != (height is None):
        raise ValueError("width and height, the columns with the size of the original image, go together")


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
    width: str | None = None
    """Width in pixels of the original image, if the boxes refer to it and the file is a smaller copy."""
    height: str | None = None
    """Likewise its height."""

    @model_validator(mode="after")
    def _size_is_whole(self) -> "ImageColumns":
        _check_size(self.width, self.height)
        return self


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
    width: str | None = None
    """Width in pixels of the original image, if the boxes refer to it and the file is a smaller copy. Comes before the
    column of the image table."""
    height: str | None = None
    """Likewise its height."""
    box_format: Literal["xyxy", "xywh"] = "xyxy"
    """xyxy: two corners. xywh: the upper left corner, width and height."""

    @model_validator(mode="after")
    def _size_is_whole(self) -> "BoxTable":
        _check_size(self.width, self.height)
        return self


class CsvTableData(BoxFrameSettings):
    """A hospital's own table; for an example see the docstring of this module."""

    dataset: Literal["csv_table"] = "csv_table"
    table: Path
    """Relative to `root` and below it, or absolute."""
    encoding: Encoding = "utf-8"
    """Of both tables, as Python calls it, for instance cp1252 for "CSV" of Excel in Western Europe."""
    columns: ImageColumns
    findings: dict[str, FindingName] = Field(min_length=1)
    """Column of the table, and name in the table of boxes -> finding: of cxr/labels/findings.py, of the label file, or
    a new one."""
    label_values: dict[str, Literal[1, 0, -1]] = {}
    """Words in the cells of findings -> 1, 0 or -1, for instance {oui: 1, non: 0, douteux: -1}."""
    boxes: BoxTable | None = None
    labels_from: Literal["table", "boxes"] = "table"
    """table: the columns of findings. boxes: 1 where the image has a box of the finding, else 0."""
    duplicates: Literal["problem", "keep"] = "problem"
    """problem: a file with the same content as an earlier one is a problem, see `on_problem`. keep: it is an image like
    any other, also in another split."""

    @model_validator(mode="after")
    def _labels_have_a_table(self) -> "CsvTableData":
        if self.labels_from == "boxes" and self.boxes is None:
            raise ValueError("labels_from: boxes needs the table of boxes, `boxes`")
        return self

    @field_validator("label_values")
    @classmethod
    def _words_have_one_value(cls, words: dict[str, Literal[1, 0, -1]]) -> dict[str, Literal[1, 0, -1]]:
        known: dict[str, tuple[str, int]] = {}
        for word, value in words.items():
            other, meant = known.setdefault(word.strip().lower(), (word, value))
            if meant != value:
                raise ValueError(f"{other!r} is {meant} and {word!r} is {value}, but upper and lower case are equal")
        return words

    def read(self) -> Dataset:
        """Load the image table and, if given, the box table."""
        require_folder(self.root, source="csv_table", holds="the paths in the table begin")
        names = dict(self.findings)
        named = [column for column in self.columns.model_dump().values() if column is not None]
        path = inside(self.root, self.table, key="data.table")
        table = self._table(path, key="table")
        required = named if self.labels_from == "boxes" else [*named, *names]
        require_columns(table, required, source=str(path), advice=_advice(self.boxes))
        tables = [self.table] if self.boxes is None else [self.table, self.boxes.table]
        problems = Problems(self.on_problem, source=" and ".join(path.name for path in tables))
        images, bad_view = _images(table, self.columns, problems)
        if self.columns.patient is not None:
            check_patient_ids(images["patient_id"], path=path, column=self.columns.patient)
        boxes = empty_boxes()
        if self.boxes is not None:
            sizes = keyed_rows(_sizes(table, self.columns), images["image_id"], problems, where=row_names(path, table))
            box_path = inside(self.root, self.boxes.table, key="data.boxes.table")
            rows = self._table(box_path, key="boxes.table", required=_box_columns(self.boxes))
            boxes = in_frame(_boxes(rows, self.boxes, names, problems, sizes=sizes.sound), self)
        labels, bad_labels = self._labels(table, images, boxes, problems)
        source = frame_source(boxes, self, otherwise="presumed")
        raw = RawTables(images, labels, boxes, source).keep(~(bad_view | bad_labels))
        return assemble(raw, self, problems, name="csv_table", unique_content=self.duplicates == "problem")

    def _table(self, path: Path, *, key: str, required: Sequence[str] = ()) -> pd.DataFrame:
        """One of the tables. key: of the setting with its path."""
        advice = f"correct `data.root`, or `data.{key}`, which is relative to it or absolute"
        return read_text_table(
            path, required=required, advice=advice, encoding=self.encoding, encoding_key="data.encoding: "
        )

    def _labels(
        self, table: pd.DataFrame, images: pd.DataFrame, boxes: pd.DataFrame, problems: Problems
    ) -> tuple[pd.DataFrame, Mask]:
        """The labels, and a mask of the rows with an invalid cell."""
        if self.labels_from == "boxes":
            labels = labels_of_boxes(images["image_id"], boxes, self.findings.values())
            return labels, np.zeros(len(table), dtype=bool)
        said = table[list(self.findings)].apply(_as_values, words=self.label_values)
        return finding_labels(said, self.findings, images["path"], problems, words_key="data.label_values")


def _advice(boxes: BoxTable | None) -> str:
    """What to do if the image table lacks a column."""
    advice = "correct `columns` and `findings` in `data`, or the table"
    return advice if boxes is None else f"{advice}; `labels_from: boxes` does without columns of findings"


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


def _as_values(cells: "pd.Series[str]", words: Mapping[str, int]) -> "pd.Series[str]":
    values = {word.strip().lower(): str(value) for word, value in words.items()}
    return cells.map(lambda cell: values.get(cell.strip().lower(), cell))


def image_ids(paths: "pd.Series[str]") -> "pd.Series[str]":
    """Paths without the ending of an image file. The last number of a UID is no ending."""
    return paths.str.replace(ENDING, "", regex=True)


def _sizes(table: pd.DataFrame, columns: ImageColumns | BoxTable) -> pd.DataFrame:
    """The frame of each row's boxes, `frame_h` and `frame_w`; no column if the settings name none."""
    if columns.width is None or columns.height is None:
        return pd.DataFrame(index=table.index)
    sides = {"frame_h": numbers(table[columns.height]), "frame_w": numbers(table[columns.width])}
    return pd.DataFrame(sides, index=table.index)


def _box_columns(columns: BoxTable) -> list[str]:
    """The columns that the table of boxes must have."""
    others = [name for name in (columns.reader, columns.width, columns.height) if name is not None]
    return [columns.image, columns.finding, columns.x1, columns.y1, columns.x2, columns.y2, *others]


def _boxes(
    table: pd.DataFrame, columns: BoxTable, names: dict[str, str], problems: Problems, *, sizes: pd.DataFrame
) -> pd.DataFrame:
    """sizes: frames by image_id, for a box table without the columns."""
    corners = [columns.x1, columns.y1, columns.x2, columns.y2]
    known = known_names(table[columns.finding], names, problems)
    table = table[table[columns.finding].isin(list(known))]
    xyxy = np.column_stack([numbers(table[corner]) for corner in corners])
    if columns.box_format == "xywh":
        xyxy = xywh_to_xyxy(xyxy)
    image_id = image_ids(table[columns.image].str.strip().map(normal_path))
    frames = _sizes(table, columns)
    if frames.empty and not sizes.empty:
        frames = sizes.reindex(image_id).set_axis(table.index)
    boxes = pd.DataFrame(xyxy, columns=CORNERS, index=table.index).join(frames)
    reader = "" if columns.reader is None else table[columns.reader].str.strip()
    return box_table(boxes.assign(image_id=image_id, finding=table[columns.finding].map(known), reader=reader))

"""VinDr-CXR: 18,000 frontal radiographs, boxes by 17 radiologists; PhysioNet's release and Kaggle's (VinBigData).

Source: Nguyen et al. 2022, doi:10.1038/s41597-022-01498-w; PhysioNet 1.0.0 (credentialed health data licence) and
kaggle.com/c/vinbigdata-chest-xray-abnormalities-detection. Not to be redistributed.

PhysioNet: ``train/*.dicom`` (15,000 images, each read by three radiologists), ``test/*.dicom`` (3,000 images, consensus
of five), ``annotations/annotations_{train,test}.csv`` (boxes of 22 local findings) and
``annotations/image_labels_{train,test}.csv`` (28 local and global findings). Kaggle: ``train.csv`` (67,914 rows, 14
findings and "No finding") with ``train/*.dicom``, or PNG or JPEG files. The layout is PhysioNet's
if there is a folder ``annotations``.

Quirks of the release, and what this module does about them:

- Train says "Other diseases", test "Other disease": both become "Other Disease".
- A "No finding" row has no box: it shows that a reader saw the image. Rows of global findings have no box either.
- The tables have no image sizes: they come from the headers of the DICOM files with boxes. Copies with smaller images
  have the original size, to which the boxes refer, in the columns ``width`` and ``height``, or as ``dim1`` and ``dim0``
  in a table ``train_meta.csv``: boxes are scaled to the file. PNG and JPEG files without these need the setting
  `box_frame` (see `cxr/datasets/box_frames.py`).
- Patients are unknown: `patient_id` is "", so images are split one by one.
- Readers disagree: each box keeps its reader, and image labels follow `label_rule`. Test is a consensus, reader "".
- The column of the reader is ``rad_id`` or ``rad_ID``.
- The radiologists R8, R9 and R10 marked 95 % of the boxes of train and never read the same image as the others.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.boxes import CORNERS
from cxr.config import UserError
from cxr.datasets.assemble import DUPLICATE_ROW, RawTables, assemble
from cxr.datasets.box_frames import BoxFrameSettings, frame_source, in_frame
from cxr.datasets.files_on_disk import images_by_stem, require_folder
from cxr.datasets.keyed_rows import keyed_rows, row_names
from cxr.datasets.text_cells import blank_rows, finding_labels, known_names, numbers
from cxr.datasets.text_files import read_text_table
from cxr.labels import FINDINGS, KAGGLE_CLASSES, NO_FINDING, VINDR_GLOBAL, VINDR_NAMES
from cxr.tables import Dataset, Problems, box_table, image_table

BOX_COLUMNS = ["image_id", "class_name", "x_min", "y_min", "x_max", "y_max"]

META_TABLE = "train_meta.csv"

NO_LABEL_ROW = "image with annotations but without a row of image labels"
MAJORITY = 0.5


class VindrData(BoxFrameSettings):
    """The folder of VinDr-CXR, and which part of it to load."""

    dataset: Literal["vindr"] = "vindr"
    part: Literal["train", "test", "all"] = "train"
    """Kaggle's release has only "train", since its test part has no labels."""
    label_rule: Literal["majority", "any"] = "majority"
    """majority: an image has a finding if at least half of its readers marked it. any: if one reader did."""

    def read(self) -> Dataset:
        """Load either layout. 67,914 rows take about a second, the headers of images with boxes some more."""
        require_folder(self.root, source="vindr")
        problems = Problems(self.on_problem, source="vindr")
        is_physionet = (self.root / "annotations").is_dir()
        raw = _read_physionet(self, problems) if is_physionet else _read_kaggle(self, problems)
        boxes = in_frame(raw.boxes, self)
        raw = replace(raw, boxes=boxes, frame_source=frame_source(boxes, self, otherwise="dicom"))
        return assemble(raw, self, problems, name="vindr")


def _read_physionet(settings: VindrData, problems: Problems) -> RawTables:
    parts = ("train", "test") if settings.part == "all" else (settings.part,)
    read = [_read_part(settings, part, problems) for part in parts]
    # a finding that only one part has is NaN in the other
    labels = pd.concat([raw.labels for raw in read], ignore_index=True)
    return RawTables(
        images=pd.concat([raw.images for raw in read], ignore_index=True),
        labels=labels[[finding for finding in FINDINGS if finding in labels.columns]],
        boxes=pd.concat([raw.boxes for raw in read], ignore_index=True),
    )


def _read_part(settings: VindrData, part: str, problems: Problems) -> RawTables:
    folder = settings.root / "annotations"
    marks = _read_marks(folder / f"annotations_{part}.csv", problems)
    path = folder / f"image_labels_{part}.csv"
    table = _lower_reader(read_text_table(path, required=["image_id"]))
    orphans = ~marks["image_id"].isin(table["image_id"])
    problems.add_all(marks.loc[orphans, "image_id"].unique(), NO_LABEL_ROW)
    labels = _labels_of_votes(table, settings.label_rule, problems, where=row_names(path, table))
    marks = marks[marks["image_id"].isin(labels.index)]
    return RawTables(_images(settings.root, part, labels.index), labels, _boxes(marks, problems))


def _labels_of_votes(table: pd.DataFrame, rule: str, problems: Problems, *, where: list[str]) -> pd.DataFrame:
    """Labels per image from PhysioNet's table of image labels; images with an invalid row are excluded."""
    rows = table["image_id"] + " by reader " + table["rad_id"]
    labels, bad = finding_labels(table.drop(columns=["image_id", "rad_id"]), VINDR_NAMES, rows, problems)
    differing = keyed_rows(labels, rows, problems, where=where).contradicts(rows)
    again = rows.duplicated() & ~differing
    problems.add_all(rows[again], DUPLICATE_ROW)
    sound = ~table["image_id"].isin(table.loc[bad | differing, "image_id"]) & ~again
    return _vote(labels[sound], table.loc[sound, "image_id"], rule)


def _read_kaggle(settings: VindrData, problems: Problems) -> RawTables:
    path = settings.root / "train.csv"
    if not path.is_file():
        raise UserError(
            f"vindr: {settings.root} has neither a folder annotations (PhysioNet) nor train.csv (Kaggle); "
            "correct `root`"
        )
    if settings.part != "train":
        raise UserError(f"vindr: part {settings.part!r} of Kaggle's layout has no labels; set `part: train`")
    marks = _read_marks(path, problems)
    # all of them have a label column, also in an excerpt that lacks some
    votes = _votes_of_marks(marks, list(dict.fromkeys(VINDR_NAMES[name] for name in KAGGLE_CLASSES)))
    image_ids = votes.index.get_level_values("image_id").to_series()
    labels = _vote(votes, image_ids, settings.label_rule)
    return RawTables(_images(settings.root, "train", labels.index), labels, _boxes(marks, problems))


def _read_marks(path: Path, problems: Problems) -> pd.DataFrame:
    """Annotation rows of known findings: columns image_id, finding, x1, y1, x2, y2, reader, blank (no coordinates)."""
    table = _lower_reader(read_text_table(path, required=BOX_COLUMNS))
    names = known_names(table["class_name"], VINDR_NAMES, problems)
    table = table[table["class_name"].isin(list(names))]
    corners = dict(zip(CORNERS, BOX_COLUMNS[2:], strict=True))
    marks = pd.DataFrame({new: numbers(table[old]) for new, old in corners.items()}, index=table.index)
    blank = blank_rows(table[BOX_COLUMNS[2:]])
    marks = marks.assign(
        image_id=table["image_id"], finding=table["class_name"].map(names), reader=table["rad_id"], blank=blank
    )
    sizes = _sizes(table, path.with_name(META_TABLE), problems)
    return marks if sizes is None else marks.assign(**sizes)


def _sizes(table: pd.DataFrame, meta: Path, problems: Problems) -> dict[str, npt.NDArray[np.float64]] | None:
    """Height and width of the original image for each row, as box columns; None if no table gives them."""
    if {"width", "height"} <= set(table.columns):
        return {"frame_h": numbers(table["height"]), "frame_w": numbers(table["width"])}
    if not meta.is_file():
        return None
    sides = read_text_table(meta, required=["image_id", "dim0", "dim1"])
    size_of = keyed_rows(sides[["dim0", "dim1"]], sides["image_id"], problems, where=row_names(meta, sides))
    ids = table["image_id"].where(~size_of.contradicts(table["image_id"]), "")
    return {"frame_h": numbers(size_of.of(ids, "dim0")), "frame_w": numbers(size_of.of(ids, "dim1"))}


def _lower_reader(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the reader in the column rad_id; "" if it is a consensus."""
    renamed = table.rename(columns={"rad_ID": "rad_id"})
    return renamed if "rad_id" in renamed.columns else renamed.assign(rad_id="")


def _boxes(marks: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """The rows that are boxes. A local finding without coordinates is kept, and becomes a problem later."""
    is_global = marks["blank"] & marks["finding"].isin(VINDR_GLOBAL) | (marks["finding"] == NO_FINDING)
    problems.count("rows of findings of the whole image, which have no box", int(is_global.sum()))
    return box_table(marks[~is_global])


def _votes_of_marks(marks: pd.DataFrame, findings: list[str]) -> pd.DataFrame:
    """(images x readers, findings): 1 if the reader marked the finding, else 0."""
    marked = pd.crosstab([marks["image_id"], marks["reader"]], marks["finding"]).clip(upper=1)
    order = [finding for finding in FINDINGS if finding in {*findings, *marked.columns}]
    return marked.reindex(columns=order, fill_value=0).astype(np.float64)


def _vote(votes: pd.DataFrame, image_ids: pd.Series, rule: str) -> pd.DataFrame:
    """Labels per image, in the order of the rows, from the votes of its readers."""
    grouped = votes.groupby(image_ids.to_numpy(), sort=False)
    share = grouped.mean()
    positive = share >= MAJORITY if rule == "majority" else share > 0
    return positive.astype(np.float64).where(share.notna()).rename_axis("image_id")


def _images(root: Path, part: str, image_ids: pd.Index) -> pd.DataFrame:
    names = images_by_stem(root / part)
    # a missing image keeps the release's file name, for the error message
    paths = [f"{part}/{names.get(image_id, image_id + '.dicom')}" for image_id in image_ids]
    return image_table(image_id=list(image_ids), path=paths, view="frontal", split=part)

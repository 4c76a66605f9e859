"""VinDr-CXR: 18,000 frontal radiographs, boxes by 17 radiologists; PhysioNet's release and Kaggle's (VinBigData).

Source: Nguyen et al. 2022, doi:10.1038/s41597-022-01498-w; PhysioNet 1.0.0 (credentialed health data licence) and
kaggle.com/c/vinbigdata-chest-xray-abnormalities-detection. Not to be redistributed.

PhysioNet: ``train/*.dicom`` (15,000 images, each read by three radiologists), ``test/*.dicom`` (3,000, consensus of
five), ``annotations/annotations_{train,test}.csv`` (boxes of 22 local findings) and
``annotations/image_labels_{train,test}.csv`` (28 columns, local and global). Kaggle: ``train.csv`` (67,914 rows,
14 findings and "No finding") with ``train/*.dicom``, or PNG or JPEG of the original size.
The layout is recognised by the folder ``annotations``.

Quirks, and how this module handles them:

- "Other diseases" in train, "Other disease" in test: both are "Other Disease".
- "No finding" rows have empty boxes: they show that a reader saw the image. Global labels have no box either.
- No image size in the tables, pixels of the original DICOM: sizes come from the headers of images with boxes.
- No patient in any table: `patient_id` is "", so splits go by image.
- Readers disagree: boxes keep their reader, and image labels follow `label_rule`. Test has one consensus, reader "".
- The reader's column is ``rad_id`` or ``rad_ID``.
- Radiologists R8, R9 and R10 drew 95 % of the boxes of train and never share an image with the others.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cxr.config import UserError
from cxr.datasets.assemble import DUPLICATE_ROW, RawTables, assemble
from cxr.datasets.files_on_disk import images_by_stem, require_folder
from cxr.datasets.text_cells import known_names, label_values, merge_columns, numbers, read_text_table
from cxr.labels import FINDINGS, NO_FINDING, VINDR_NAMES
from cxr.tables import Dataset, DataSettings, Problems, box_table, image_table

BOX_FACTS = ["image_id", "class_name", "x_min", "y_min", "x_max", "y_max"]

KAGGLE_CLASSES = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Nodule/Mass",
    "Other lesion",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
    "No finding",
)
"""Kaggle's class_id 0 to 14; all of them get a label column, also in an excerpt that lacks some."""

GLOBAL_FINDINGS = frozenset({NO_FINDING, "COPD", "Lung Tumor", "Pneumonia", "Tuberculosis", "Other Disease"})
"""Findings of the whole image: a row without coordinates is no defect."""

NO_LABEL_ROW = "image with annotations but without a row of image labels"

MAJORITY = 0.5


class VindrData(DataSettings):
    """Where VinDr-CXR lies and what of it to read."""

    dataset: Literal["vindr"] = "vindr"
    part: Literal["train", "test", "all"] = "train"
    """Kaggle's test part has no labels, so there only "train" can be read."""

    label_rule: Literal["majority", "any"] = "majority"
    """An image has a finding if at least half of its readers (majority) or any of them marked it."""

    def read(self) -> Dataset:
        """The data set's tables. UserError as the module's docstring and `on_problem` say."""
        return read_vindr(self)


def read_vindr(settings: VindrData) -> Dataset:
    """Read either layout. 67,914 rows take about a second, headers of images with boxes a few more."""
    require_folder(settings.root, source="vindr")
    problems = Problems(settings.on_problem, source="vindr")
    if (settings.root / "annotations").is_dir():
        raw = _read_physionet(settings, problems)
    else:
        raw = _read_kaggle(settings, problems)
    return assemble(raw, settings, problems, name="vindr")


def _read_physionet(settings: VindrData, problems: Problems) -> RawTables:
    parts = ("train", "test") if settings.part == "all" else (settings.part,)
    read = [_read_part(settings, part, problems) for part in parts]
    # Parts may differ in columns by a label that one of them lacks; absent there means not asked: NaN.
    labels = pd.concat([raw.labels for raw in read], ignore_index=True)
    return RawTables(
        images=pd.concat([raw.images for raw in read], ignore_index=True),
        labels=labels[[finding for finding in FINDINGS if finding in labels.columns]],
        boxes=pd.concat([raw.boxes for raw in read], ignore_index=True),
    )


def _read_part(settings: VindrData, part: str, problems: Problems) -> RawTables:
    folder = settings.root / "annotations"
    marks = _read_marks(folder / f"annotations_{part}.csv", problems)
    table = _lower_reader(read_text_table(folder / f"image_labels_{part}.csv", required=["image_id"]))
    orphans = ~marks["image_id"].isin(table["image_id"])
    problems.add_all(marks.loc[orphans, "image_id"].unique(), NO_LABEL_ROW)
    labels = _labels_of_votes(table, settings.label_rule, problems)
    marks = marks[marks["image_id"].isin(labels.index)]
    return RawTables(_images(settings.root, part, labels.index), labels, _boxes(marks, problems))


def _labels_of_votes(table: pd.DataFrame, rule: str, problems: Problems) -> pd.DataFrame:
    """Labels by image from PhysioNet's image label table; images with a refused row are excluded."""
    twice = table.duplicated(["image_id", "rad_id"])
    rows = table["image_id"] + " by reader " + table["rad_id"]
    problems.add_all(rows[twice], DUPLICATE_ROW)
    table, rows = table[~twice], rows[~twice]
    columns = [name for name in map(str, table.columns) if name not in ("image_id", "rad_id")]
    names = known_names(columns, VINDR_NAMES, problems)
    values, bad = label_values(table[list(names)], rows, problems)
    sound = ~table["image_id"].isin(table.loc[bad, "image_id"])
    return _vote(merge_columns(values, names, FINDINGS)[sound], table.loc[sound, "image_id"], rule)


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
    votes = _votes_of_marks(marks, list(dict.fromkeys(VINDR_NAMES[name] for name in KAGGLE_CLASSES)))
    image_ids = votes.index.get_level_values("image_id").to_series()
    labels = _vote(votes, image_ids, settings.label_rule)
    return RawTables(_images(settings.root, "train", labels.index), labels, _boxes(marks, problems))


def _read_marks(path: Path, problems: Problems) -> pd.DataFrame:
    """Annotation rows with known class names: image_id, finding, x1, y1, x2, y2, reader, row (what was said)."""
    table = _lower_reader(read_text_table(path, required=BOX_FACTS))
    names = known_names(table["class_name"], VINDR_NAMES, problems)
    table = table[table["class_name"].isin(list(names))]
    corners = dict(zip(("x1", "y1", "x2", "y2"), BOX_FACTS[2:], strict=True))
    marks = pd.DataFrame({new: numbers(table[old]) for new, old in corners.items()}, index=table.index)
    blank = (table[BOX_FACTS[2:]].apply(lambda column: column.str.strip()) == "").all(axis=1)
    return marks.assign(
        image_id=table["image_id"], finding=table["class_name"].map(names), reader=table["rad_id"], blank=blank
    )


def _lower_reader(table: pd.DataFrame) -> pd.DataFrame:
    """Name the reader's column rad_id; "" if the table is a consensus."""
    renamed = table.rename(columns={"rad_ID": "rad_id"})
    return renamed if "rad_id" in renamed.columns else renamed.assign(rad_id="")


def _boxes(marks: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """Rows that are boxes: global findings without coordinates are not; a local one without is a problem later."""
    is_global = marks["blank"] & marks["finding"].isin(GLOBAL_FINDINGS) | (marks["finding"] == NO_FINDING)
    problems.count("rows of findings of the whole image, which have no box", int(is_global.sum()))
    return box_table(marks[~is_global])


def _votes_of_marks(marks: pd.DataFrame, findings: list[str]) -> pd.DataFrame:
    """One row per image and reader, one column per finding: 1 if the reader marked it, else 0."""
    marked = pd.crosstab([marks["image_id"], marks["reader"]], marks["finding"]).clip(upper=1)
    order = [finding for finding in FINDINGS if finding in {*findings, *marked.columns}]
    return marked.reindex(columns=order, fill_value=0).astype(np.float64)


def _vote(votes: pd.DataFrame, image_ids: pd.Series, rule: str) -> pd.DataFrame:
    """Labels by image (index, in the rows' order) from the readers' votes (rows)."""
    grouped = votes.groupby(image_ids.to_numpy(), sort=False)
    share = grouped.mean()
    positive = share >= MAJORITY if rule == "majority" else share > 0
    return positive.astype(np.float64).where(share.notna()).rename_axis("image_id")


def _images(root: Path, part: str, image_ids: pd.Index) -> pd.DataFrame:
    names = images_by_stem(root / part)
    # An image that is not there keeps the release's name, for the message that says so.
    paths = [f"{part}/{names.get(image_id, image_id + '.dicom')}" for image_id in image_ids]
    return image_table(image_id=list(image_ids), path=paths, view="frontal", split=part)

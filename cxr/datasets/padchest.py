"""PadChest: 160,000 radiographs of 67,000 patients of a Spanish hospital with labels from reports.

Source: Bustos et al. 2020, arXiv:1901.07441; bimcv.cipf.es/bimcv-projects/padchest. BIMCV's data use agreement: for
research, not to be redistributed.

As released: ``PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv`` (as it came or ``.gz``) and 16-bit PNG files in
numbered folders, which the column ImageDir names. Columns that are read: ImageID (the file's name), StudyID, PatientID,
StudyDate_DICOM (``20140915``), PatientBirth (a year), PatientSex_DICOM, Projection and Labels.

Quirks of the release, and what this module does about them:

- Labels is a list such as ``['cardiomegaly', 'pleural effusion']``; some of its names have spaces around them.
- A finding of ours that is not listed is negative (0). Labels without a finding of ours (`cxr.labels.release_names`)
  are counted by name. Labels that say that nothing was read ("exclude", "suboptimal study") exclude the image, named
  and counted; "unchanged" refers to another report, which is unknown: it excludes the image unless other labels are
  listed.
- "hydropneumothorax" is an effusion and a pneumothorax.
- Rows without labels are excluded, named and counted.
- Projection: PA, AP and AP_horizontal are frontal, L is lateral; all others are neither and need `view: all`.
- Age is the year of the study minus the year of birth.
- Image files are found by name anywhere under `root`, since copies keep them in other folders.
"""

import ast
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.files_on_disk import find_images, require_folder
from cxr.datasets.text_cells import Mask, ages_between, listed_labels, look_up, numbers, sexes, with_a_finding
from cxr.datasets.text_files import first_table, read_text_table
from cxr.datasets.views import WantedView, in_view
from cxr.labels.release_names import PADCHEST_BOTH, PADCHEST_NAMES
from cxr.tables import Dataset, DataSettings, Problems, empty_boxes, image_table

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
COLUMNS = [
    "ImageID", "StudyID", "PatientID", "StudyDate_DICOM", "PatientBirth", "PatientSex_DICOM", "Projection", "Labels",
]  # fmt: skip
VIEWS = {**dict.fromkeys(("PA", "AP", "AP_horizontal"), "frontal"), "L": "lateral"}
NOT_READ = frozenset({"exclude", "suboptimal study"})
UNCHANGED = "unchanged"

BAD_LABELS = "Labels is no list of names"
NO_LABELS = "image without labels"
UNREAD = "image that was not read (exclude, suboptimal study, or nothing but unchanged)"

Names = list[str]


class PadchestData(DataSettings):
    """The folder of PadChest, and which images to load."""

    dataset: Literal["padchest"] = "padchest"
    view: WantedView = "frontal"
    """frontal: PA, AP and AP_horizontal."""

    def read(self) -> Dataset:
        """Load the table and find the images."""
        require_folder(self.root, source="padchest")
        problems = Problems(self.on_problem, source="padchest")
        table = read_text_table(first_table(self.root, [TABLE], source="padchest"), required=COLUMNS)
        names, sound = _names(table, problems)
        names = with_a_finding(names, PADCHEST_NAMES, problems)
        labels, _ = listed_labels(names, PADCHEST_NAMES, problems, columns=PADCHEST_NAMES)
        images = _images(table, self.root, problems)
        wanted = in_view(images["view"], self.view, problems)
        raw = RawTables(images, labels, empty_boxes())
        return assemble(raw, self, problems, name="padchest", wanted=sound & wanted)


def _names(table: pd.DataFrame, problems: Problems) -> tuple["pd.Series[Names]", Mask]:
    """The names of each row's labels, and an (N,) mask of the rows that have some and were read."""
    listed: list[Names] = []
    sound = np.ones(len(table), dtype=bool)
    for row, (image_id, text) in enumerate(zip(table["ImageID"], table["Labels"].str.strip(), strict=True)):
        names = _list_of(text)
        if names is None:
            problems.add(f"{image_id}, Labels {text[:60]!r}", BAD_LABELS)
        elif not names:
            problems.exclude(image_id, NO_LABELS)
        elif NOT_READ & set(names) or set(names) == {UNCHANGED}:
            problems.exclude(image_id, UNREAD)
        else:
            listed.append(names)
            continue
        listed.append([])
        sound[row] = False
    return pd.Series(listed, index=table.index, dtype=object), sound


def _list_of(text: str) -> Names | None:
    """The names in a Python list of texts, without blank ones; None if it is no such list."""
    if text in ("", "nan"):
        return []
    try:
        values = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        return None
    names = [value.strip().lower() for value in values if value.strip()]
    return [meant for name in names for meant in PADCHEST_BOTH.get(name, (name,))]


def _images(table: pd.DataFrame, root: Path, problems: Problems) -> pd.DataFrame:
    found = find_images(root)
    names = table["ImageID"]
    return image_table(
        image_id=names.str.removesuffix(".png"),
        path=names.map(lambda name: found.get(name.removesuffix(".png"), name)),
        patient_id=table["PatientID"],
        study_id=table["StudyID"],
        view=look_up(table["Projection"].str.strip(), VIEWS),
        sex=sexes(table["PatientSex_DICOM"], problems),
        age=ages_between(numbers(table["PatientBirth"]), numbers(table["StudyDate_DICOM"].str[:4]), problems),
    )

"""MIMIC-CXR-JPG 2.0.0 and 2.1.0: 377,110 radiographs of 227,827 studies with labels mined from reports.

Source: Johnson et al. 2019, arXiv:1901.07042; PhysioNet, doi:10.13026/jsn5-t979. Credentialed health data licence: not
to be redistributed.

As released: ``files/p10/p10000032/s50414267/<dicom_id>.jpg`` (p and the patient's first two digits, the patient, the
study), and three tables, as they come (``.csv.gz``) or unpacked:

- ``mimic-cxr-2.0.0-metadata``: a row per image with dicom_id, subject_id, study_id and ViewPosition;
- ``mimic-cxr-2.0.0-split``: dicom_id, study_id, subject_id and split (train, validate, test; by patient);
- ``mimic-cxr-2.0.0-chexpert`` or ``-negbio``: a row per study with the 14 labels of CheXpert: 1, 0, -1 (uncertain) or
  blank (not mentioned).

Quirks of the release, and what this module does about them:

- Labels belong to studies: all images of a study get them. A few studies have no row: their labels are NaN.
- Views are in the metadata. PA and AP are frontal, also AXIAL, LLD and RLD; LATERAL, LL and XTABLE LATERAL are lateral;
  obliques (LAO, RAO, LPO, RPO), SWIMMERS and blanks are neither, and are loaded only with `view: all`.
- The split "validate" becomes "valid".
- Sex and age are not in these tables.
"""

from pathlib import Path
from typing import Literal

import pandas as pd

from cxr.datasets.assemble import DUPLICATE_ROW, RawTables, assemble
from cxr.datasets.files_on_disk import require_folder
from cxr.datasets.keyed_rows import keyed_rows, row_names
from cxr.datasets.text_cells import Mask, finding_labels, look_up
from cxr.datasets.text_files import first_table, read_text_table
from cxr.datasets.views import WantedView, in_view
from cxr.labels import CHEXPERT_NAMES
from cxr.tables import Dataset, DataSettings, Problems, empty_boxes, image_table

IDS = ["subject_id", "study_id"]
VIEWS = {
    **dict.fromkeys(("PA", "AP", "AP AXIAL", "AP LLD", "AP RLD", "PA LLD", "PA RLD"), "frontal"),
    **dict.fromkeys(("LATERAL", "LL", "XTABLE LATERAL"), "lateral"),
    **dict.fromkeys(("LAO", "RAO", "LPO", "RPO", "SWIMMERS", ""), ""),
}
SPLITS = {"train": "train", "validate": "valid", "test": "test"}

BAD_VIEW = "unknown ViewPosition"
BAD_SPLIT = "image whose split is none of train, validate and test"


class MimicData(DataSettings):
    """The folder of MIMIC-CXR-JPG, and which images and labels to load."""

    dataset: Literal["mimic"] = "mimic"
    view: WantedView = "frontal"
    labeller: Literal["chexpert", "negbio"] = "chexpert"
    """The labeller whose table is loaded."""

    def read(self) -> Dataset:
        """Load the three tables under `root`."""
        require_folder(self.root, source="mimic")
        problems = Problems(self.on_problem, source="mimic")
        table = read_text_table(_table(self.root, "metadata"), required=["dicom_id", *IDS, "ViewPosition"])
        images, wanted = _images(table, self, problems)
        labels, bad = _labels(table[IDS], self, problems)
        return assemble(RawTables(images, labels, empty_boxes()), self, problems, name="mimic", wanted=wanted & ~bad)


def _table(root: Path, name: str) -> Path:
    return first_table(root, [f"mimic-cxr-2.0.0-{name}.csv"], source="mimic")


def _images(table: pd.DataFrame, settings: MimicData, problems: Problems) -> tuple[pd.DataFrame, Mask]:
    """The image table, and an (N,) mask of the rows that are sound and of the wanted view."""
    position = table["ViewPosition"].str.strip()
    path = _table(settings.root, "split")
    splits = read_text_table(path, required=["dicom_id", "split"])
    split_of = keyed_rows(splits[["split"]], splits["dicom_id"], problems, where=row_names(path, splits))
    split = look_up(split_of.of(table["dicom_id"], "split"), SPLITS)
    bad_view, two_splits = ~position.isin(list(VIEWS)), split_of.contradicts(table["dicom_id"])
    bad_split = (split == "") & ~two_splits
    problems.add_all((table["dicom_id"] + ", view " + position)[bad_view], BAD_VIEW)
    problems.add_all(table.loc[bad_split, "dicom_id"], BAD_SPLIT)
    patient, study = table["subject_id"], table["study_id"]
    folder = "files/p" + patient.str[:2] + "/p" + patient + "/s" + study + "/"
    images = image_table(
        image_id=table["dicom_id"],
        path=folder + table["dicom_id"] + ".jpg",
        patient_id=patient,
        study_id=study,
        view=look_up(position, VIEWS),
        split=split,
    )
    return images, in_view(images["view"], settings.view, problems) & ~(bad_view | bad_split | two_splits).to_numpy()


def _labels(ids: pd.DataFrame, settings: MimicData, problems: Problems) -> tuple[pd.DataFrame, Mask]:
    """Labels of each image by its study, and an (N,) mask of the images whose study has an invalid row."""
    path = _table(settings.root, settings.labeller)
    table = read_text_table(path, required=IDS)
    studies, study = table["study_id"], ids["study_id"]
    labels, bad = finding_labels(table.drop(columns=IDS), CHEXPERT_NAMES, "study " + studies, problems)
    labels_of = keyed_rows(labels, studies, problems, where=row_names(path, table))
    again = studies.duplicated() & ~labels_of.contradicts(studies)
    problems.add_all("study " + studies[again], DUPLICATE_ROW)
    problems.count(f"images of studies without a row in {path.name}", int((~study.isin(studies)).sum()))
    own = labels_of.rows.reindex(study).set_axis(ids.index)
    return own, study.isin(studies[bad]).to_numpy() | labels_of.contradicts(study)

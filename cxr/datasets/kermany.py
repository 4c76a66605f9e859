"""Kermany: 5,856 radiographs of children of one to five years, normal or pneumonia.

Source: Kermany et al. 2018, doi:10.17632/rscbjbr9sj (Guangzhou Women and Children's Medical Center). CC BY 4.0.

As released: folders ``{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg``; 5,216, 16 and 624 images in the release that most
people use (other partitions exist). PNEUMONIA files are ``person1000_bacteria_2931.jpeg`` or ``..._virus_...``,
NORMAL files ``IM-0115-0001.jpeg`` or ``NORMAL2-IM-0383-0001.jpeg``.

Quirks, and how this module handles them:

- The folders' split leaks: patients stand in two of them (458 of 4,097 groups). `split` holds the folder's name
  ("val" as "valid"), but split by patient instead.
- Nobody has a patient table. `patient_id` comes from ``groups.csv`` (columns split, class, file, group_id) where
  that is there, otherwise from the file name: the person's number, or the series IM-xxxx with its prefix. The
  numbers of bacterial and viral files count as one person: joining two people costs nothing, parting one leaks.
- Identical files occur (30 groups, one across two patient groups): `duplicates` leaves out all but the first.
- No boxes, no view, age or sex; pneumonia or not are the only labels, so "No Finding" means no pneumonia here.
"""

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.config import UserError
from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.files_on_disk import IMAGE_SUFFIXES, require_folder
from cxr.datasets.text_cells import known_names, look_up, read_text_table
from cxr.labels import FINDINGS, KERMANY_NAMES
from cxr.tables import Dataset, DataSettings, Problems, empty_boxes, image_table
from cxr.threads import in_threads

SPLITS = {"train": "train", "val": "valid", "test": "test"}

GROUPS = "groups.csv"

PATIENT_PATTERN = r"^(person\d+)_|^((?:NORMAL\d*-)?IM-\d+)-"

NO_GROUP = "image whose patient neither groups.csv nor the file name tells"


IDENTICAL = "identical to an earlier file"


class KermanyData(DataSettings):
    """Where Kermany's folders lie."""

    dataset: Literal["kermany"] = "kermany"
    duplicates: Literal["keep", "exclude"] = "keep"
    """"exclude": of identical files (by SHA-256) only the first is read; the others are named."""

    def read(self) -> Dataset:
        """The data set's tables. UserError as the module's docstring and `on_problem` say."""
        return read_kermany(self)


def read_kermany(settings: KermanyData) -> Dataset:
    """List the folders; patients from groups.csv or the file names."""
    require_folder(settings.root, source="kermany")
    problems = Problems(settings.on_problem, source="kermany")
    table = _list_files(settings.root)
    names = known_names(table["class"], KERMANY_NAMES, problems)
    table = table[table["class"].isin(list(names))].reset_index(drop=True)
    patient = _patients(settings.root, table)
    problems.add_all(table.loc[patient == "", "path"], NO_GROUP)
    images = image_table(
        image_id=table["path"].str.rsplit(".", n=1).str[0],
        path=table["path"],
        patient_id=patient,
        study_id=table["file"].str.rsplit(".", n=1).str[0],
        split=table["folder"].map(SPLITS),
    )
    raw = RawTables(images, _labels(table["class"].map(names)), empty_boxes()).keep(patient != "")
    if settings.duplicates == "exclude":
        raw = raw.keep(~_duplicates(settings.root, raw.images["path"], problems))
    return assemble(raw, settings, problems, name="kermany")


def _list_files(root: Path) -> pd.DataFrame:
    """All image files: folder, class, file, path; in the order of the splits, then by name."""
    rows = [
        (split, folder.name, path.name, path.relative_to(root).as_posix())
        for split in SPLITS
        if (root / split).is_dir()
        for folder in sorted((root / split).iterdir())
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not rows:
        raise UserError(f"kermany: no image in {root}/(train, val, test)/(NORMAL, PNEUMONIA); correct `root`")
    return pd.DataFrame(rows, columns=["folder", "class", "file", "path"])


def _patients(root: Path, table: pd.DataFrame) -> pd.Series:
    """Patient group of each file; "" where nothing tells."""
    named = table["file"].str.extract(PATIENT_PATTERN)
    by_name = named[0].fillna(named[1]).fillna("")
    if not (root / GROUPS).is_file():
        return by_name
    groups = read_text_table(root / GROUPS, required=["split", "class", "file", "group_id"])
    keys = groups["split"] + "/" + groups["class"] + "/" + groups["file"]
    return look_up(table["path"], dict(zip(keys, groups["group_id"], strict=True)))


def _labels(finding: pd.Series) -> pd.DataFrame:
    present = [name for name in FINDINGS if name in KERMANY_NAMES.values()]
    return pd.DataFrame({name: (finding == name).astype(np.float64) for name in present})


def _duplicates(root: Path, paths: pd.Series, problems: Problems) -> npt.NDArray[np.bool_]:
    """(N,) whether an earlier file has the same bytes."""

    def digests(part: list[str]) -> list[str]:
        return [hashlib.sha256((root / path).read_bytes()).hexdigest() for path in part]

    first: dict[str, str] = {}
    repeated = []
    for path, digest in zip(paths, in_threads(digests, paths), strict=True):
        earlier = first.setdefault(digest, path)
        repeated.append(earlier != path)
        if earlier != path:
            problems.leave_out(f"{path} (as {earlier})", IDENTICAL)
    return np.array(repeated, dtype=bool)

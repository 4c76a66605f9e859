"""Kermany: 5,856 radiographs of children of one to five years, normal or pneumonia.

Source: Kermany et al. 2018, doi:10.17632/rscbjbr9sj (Guangzhou Women and Children's Medical Center). CC BY 4.0.

As released: folders ``{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg`` with 5,216, 16 and 624 images (other partitions
exist). PNEUMONIA files are named ``person1000_bacteria_2931.jpeg`` or ``person1000_virus_2931.jpeg``, NORMAL files
``IM-0115-0001.jpeg`` or ``NORMAL2-IM-0383-0001.jpeg``.

Quirks of the release, and what this module does about them:

- 458 of 4,097 patients have images in two of the folders, so split by patient. `split` is the folder's name ("valid"
  for val).
- There is no patient table. `patient_id` comes from ``groups.csv`` (columns split, class, file, group_id) if that
  file exists, otherwise from the file name: the number of the person, or the series IM-xxxx with its prefix. The same
  number in a bacterial and a viral file counts as one person, since splitting a person would leak.
- Some files are identical (30 groups): with ``duplicates: exclude`` only the first of each group is loaded.
- There are no boxes, views, ages or sexes. "No Finding" means only that there is no pneumonia.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.config import UserError
from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.files_on_disk import IMAGE_SUFFIXES, require_folder
from cxr.datasets.keyed_rows import keyed_rows, row_names
from cxr.datasets.same_content import same_content
from cxr.datasets.text_cells import Mask, known_names
from cxr.datasets.text_files import read_text_table
from cxr.labels import FINDINGS, KERMANY_NAMES
from cxr.tables import Dataset, DataSettings, Problems, empty_boxes, image_table

SPLITS = {"train": "train", "val": "valid", "test": "test"}
GROUPS = "groups.csv"
PATIENT_PATTERN = r"^(person\d+)_|^((?:NORMAL\d*-)?IM-\d+)-"

NO_GROUP = "image whose patient is neither in groups.csv nor in the file name"
IDENTICAL = "identical to an earlier file"


class KermanyData(DataSettings):
    """The folder of Kermany's data set, and what to do with identical files."""

    dataset: Literal["kermany"] = "kermany"
    duplicates: Literal["keep", "exclude"] = "keep"
    """exclude: load only the first of several identical files (by SHA-256) and report the others."""

    def read(self) -> Dataset:
        """List the image files; the patients come from groups.csv or the file names."""
        require_folder(self.root, source="kermany")
        problems = Problems(self.on_problem, source="kermany")
        table = _list_files(self.root)
        names = known_names(table["class"], KERMANY_NAMES, problems)
        table = table[table["class"].isin(list(names))].reset_index(drop=True)
        patient, differing = _patients(self.root, table, problems)
        unknown = (patient == "").to_numpy() & ~differing
        problems.add_all(table.loc[unknown, "path"], NO_GROUP)
        images = image_table(
            image_id=table["path"].str.rsplit(".", n=1).str[0],
            path=table["path"],
            patient_id=patient,
            study_id=table["file"].str.rsplit(".", n=1).str[0],
            split=table["folder"].map(SPLITS),
        )
        raw = RawTables(images, _labels(table["class"].map(names)), empty_boxes()).keep(~(unknown | differing))
        if self.duplicates == "exclude":
            raw = raw.keep(~_duplicates(self.root, raw.images["path"], problems))
        return assemble(raw, self, problems, name="kermany")


def _list_files(root: Path) -> pd.DataFrame:
    """All image files, by split and name: columns folder, class, file, path."""
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


def _patients(root: Path, table: pd.DataFrame, problems: Problems) -> "tuple[pd.Series[str], Mask]":
    """(N,) patient of each file, "" if unknown; and an (N,) mask of the files with two different ones."""
    named = table["file"].str.extract(PATIENT_PATTERN)
    by_name = named[0].fillna(named[1]).fillna("")
    if not (root / GROUPS).is_file():
        return by_name, np.zeros(len(table), dtype=bool)
    groups = read_text_table(root / GROUPS, required=["split", "class", "file", "group_id"])
    keys = groups["split"] + "/" + groups["class"] + "/" + groups["file"]
    group_of = keyed_rows(groups[["group_id"]], keys, problems, where=row_names(root / GROUPS, groups))
    return group_of.of(table["path"], "group_id").str.strip(), group_of.contradicts(table["path"])


def _labels(finding: pd.Series) -> pd.DataFrame:
    present = [name for name in FINDINGS if name in KERMANY_NAMES.values()]
    return pd.DataFrame({name: (finding == name).astype(np.float64) for name in present})


def _duplicates(root: Path, paths: pd.Series, problems: Problems) -> npt.NDArray[np.bool_]:
    """(N,) True if an earlier file has the same bytes."""
    earlier = same_content(root, paths)
    for path, first in earlier.items():
        problems.exclude(f"{path} (as {first})", IDENTICAL)
    return paths.isin(earlier).to_numpy()

"""CheXpert v1.0 and v1.0-small: 224,316 radiographs of 65,240 patients with labels mined from reports.

Source: Irvin et al. 2019, arXiv:1901.07031; Stanford AIMI. Stanford's research use agreement: non-commercial, not to
be redistributed.

As released: ``train.csv`` (223,414 rows), ``valid.csv`` (234 rows; three radiologists' majority), and where one has
it ``test.csv``, next to folders ``train/patient00001/study1/view1_frontal.jpg``. Columns Path, Sex, Age,
Frontal/Lateral, AP/PA and 14 findings in {1, 0, -1 uncertain, blank not mentioned}.

Quirks, and how this module handles them:

- Path starts with the release's folder name. `root` may be that folder or its parent; the name is not relied on.
- Patient, study and view stand only in Path: they are read from there.
- Blank is not 0: it stays NaN, and -1 stays -1; the uncertainty policy belongs to stage 1.
- Sex holds one "Unknown" (becomes ""), Age three 0 for unknown (becomes NaN, counted).
- AP/PA is blank for laterals and ``LL`` or ``RL`` on 17 rows that Path calls frontal: `odd_projections` keeps them
  as the release has them, or leaves them out.
- ``valid.csv`` has no blanks and no -1, no Fracture and one Lung Lesion: its figures for these say little.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cxr.config import UserError
from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.files_on_disk import require_folder
from cxr.datasets.text_cells import (
    Mask,
    ages,
    known_names,
    label_values,
    merge_columns,
    read_text_table,
    require_columns,
    sexes,
)
from cxr.labels import CHEXPERT_NAMES, FINDINGS
from cxr.tables import Dataset, DataSettings, Problems, empty_boxes, image_table

SPLITS = ("train", "valid", "test")

FACTS = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"]
"""Columns that are no findings. The test table has only Path."""

PATH_PATTERN = (
    r"^(?:.*/)?(?P<inner>(?:train|valid|test)/(?P<patient_id>patient\d+)/(?P<study>study\d+)"
    r"/view\d+_(?P<view>frontal|lateral)\.\w+)$"
)

BAD_PATH = "path is not .../patientN/studyN/viewN_frontal or _lateral"


class ChexpertData(DataSettings):
    """Where CheXpert lies and what of it to read."""

    dataset: Literal["chexpert"] = "chexpert"
    view: Literal["frontal", "all"] = "frontal"
    """Laterals have no boxes anywhere, so frontal views are the default."""

    splits: tuple[Literal["train", "valid", "test"], ...] | None = None
    """Tables to read; without it, all that are there."""

    odd_projections: Literal["keep", "exclude"] = "keep"
    """Rows whose AP/PA is LL or RL although they are called frontal."""

    def read(self) -> Dataset:
        """The data set's tables. UserError as the module's docstring and `on_problem` say."""
        return read_chexpert(self)


def read_chexpert(settings: ChexpertData) -> Dataset:
    """Read the tables under `settings.root`. 223,414 rows take a few seconds."""
    require_folder(settings.root, source="chexpert")
    folder = _release_folder(settings.root)
    table = _read_splits(folder, settings)
    problems = Problems(settings.on_problem, source="chexpert")
    start = "" if folder == settings.root else f"{folder.name}/"
    return assemble(_parse(table, settings, start, problems), settings, problems, name="chexpert")


def _release_folder(root: Path) -> Path:
    """`root`, or the one folder in it that holds the tables."""

    def has_tables(folder: Path) -> bool:
        return any((folder / f"{split}.csv").is_file() for split in SPLITS)

    if has_tables(root):
        return root
    inner = sorted(folder for folder in root.iterdir() if folder.is_dir() and has_tables(folder))
    if not inner:
        raise UserError(f"chexpert: no train.csv or valid.csv in {root} or a folder in it; correct `root`")
    if len(inner) > 1:
        names = ", ".join(folder.name for folder in inner)
        raise UserError(f"chexpert: {root} holds several releases ({names}); set `root` to one of them")
    return inner[0]


def _read_splits(folder: Path, settings: ChexpertData) -> pd.DataFrame:
    """The tables one after the other as text, with a column `split`."""
    wanted = settings.splits or [split for split in SPLITS if (folder / f"{split}.csv").is_file()]
    tables = []
    for split in wanted:
        path = folder / f"{split}.csv"
        table = read_text_table(path, required=["Path"])
        if split != "test":
            require_columns(table, FACTS, source=str(path))
        tables.append(table.assign(split=split))
    table = pd.concat(tables, ignore_index=True).fillna("")
    return table.assign(**{name: "" for name in FACTS if name not in table.columns})


def _parse(table: pd.DataFrame, settings: ChexpertData, start: str, problems: Problems) -> RawTables:
    """The rows that can be understood and are wanted. `start` is the release's folder within `root`."""
    parts = table["Path"].str.extract(PATH_PATTERN)
    bad_path = parts["inner"].isna().to_numpy()
    problems.add_all(table.loc[bad_path, "Path"].tolist(), BAD_PATH)
    labels, bad_labels = _labels(table, problems)
    parts = parts.fillna("")
    images = image_table(
        image_id=parts["inner"].str.rsplit(".", n=1).str[0],
        path=start + parts["inner"],
        patient_id=parts["patient_id"],
        study_id=parts["patient_id"] + "/" + parts["study"],
        view=parts["view"],
        sex=sexes(table["Sex"].replace("Unknown", ""), problems),
        age=ages(table["Age"], problems, low=1),
        split=table["split"],
    )
    wanted = _wanted(parts["view"], table["AP/PA"], settings, problems)
    return RawTables(images, labels, empty_boxes()).keep(wanted & ~bad_path & ~bad_labels)


def _labels(table: pd.DataFrame, problems: Problems) -> tuple[pd.DataFrame, Mask]:
    columns = [name for name in map(str, table.columns) if name not in (*FACTS, "split")]
    names = known_names(columns, CHEXPERT_NAMES, problems)
    values, bad_rows = label_values(table[list(names)], table["Path"], problems)
    return merge_columns(values, names, FINDINGS), bad_rows


def _wanted(view: "pd.Series[str]", projection: "pd.Series[str]", settings: ChexpertData, problems: Problems) -> Mask:
    """Rows that the settings ask for; the others are counted."""
    wanted = np.ones(len(view), dtype=bool)
    if settings.view == "frontal":
        lateral = (view == "lateral").to_numpy()
        problems.count("lateral images left out by `view: frontal`", int(lateral.sum()))
        wanted &= ~lateral
    if settings.odd_projections == "exclude":
        odd = projection.isin(["LL", "RL"]).to_numpy() & wanted
        wanted &= ~odd
        problems.count("images left out by `odd_projections: exclude`", int(odd.sum()))
    return wanted

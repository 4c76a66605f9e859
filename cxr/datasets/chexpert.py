"""CheXpert v1.0 and v1.0-small: 224,316 radiographs of 65,240 patients with labels mined from reports.

Source: Irvin et al. 2019, arXiv:1901.07031; Stanford AIMI. Stanford's research use agreement: non-commercial, not to
be redistributed.

As released: ``train.csv`` (223,414 rows), ``valid.csv`` (234 rows, the majority of three radiologists), optionally
``test.csv``, and images such as ``train/patient00001/study1/view1_frontal.jpg``. Columns: Path, Sex, Age,
Frontal/Lateral, AP/PA and 14 findings, which are 1, 0, -1 (uncertain) or blank (not mentioned).

Quirks of the release, and what this module does about them:

- Path starts with the name of the release's folder. `root` may be that folder or its parent.
- Only Path names the patient, the study and the view, so they are taken from there.
- A blank label becomes NaN, not 0, and -1 stays -1. Stage 1 applies the uncertainty policy.
- One Sex is "Unknown" and becomes ""; three ages are 0 and become NaN.
- AP/PA is blank for laterals, and ``LL`` or ``RL`` on 17 rows whose Path says frontal: see `odd_projections`.
- ``valid.csv`` has no Fracture and one Lung Lesion, so its figures for them say little.
"""

from pathlib import Path
from typing import Literal

import pandas as pd

from cxr.config import UserError
from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.files_on_disk import require_folder
from cxr.datasets.text_cells import Mask, ages, finding_labels, sexes
from cxr.datasets.text_files import read_text_table
from cxr.datasets.views import WantedView, in_view
from cxr.labels import CHEXPERT_NAMES
from cxr.tables import Dataset, DataSettings, Problems, empty_boxes, image_table

SPLITS = ("train", "valid", "test")

FACTS = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"]
"""The columns that are not findings. The test table has only Path."""

PATH_PATTERN = (
    r"^(?:.*/)?(?P<inner>(?P<image_id>(?:train|valid|test)/(?P<patient_id>patient\d+)/(?P<study>study\d+)"
    r"/view\d+_(?P<view>frontal|lateral))\.\w+)$"
)

BAD_PATH = "path is not .../patientN/studyN/viewN_frontal or _lateral"


class ChexpertData(DataSettings):
    """The folder of CheXpert, and which images to load."""

    dataset: Literal["chexpert"] = "chexpert"
    view: WantedView = "frontal"
    """frontal: no lateral views, which have no boxes in any data set."""
    splits: tuple[Literal["train", "valid", "test"], ...] | None = None
    """Tables to load. None: all that exist."""
    odd_projections: Literal["keep", "exclude"] = "keep"
    """What to do with frontal images whose AP/PA is LL or RL."""

    def read(self) -> Dataset:
        """Load the tables under `root`. 223,414 rows take a few seconds."""
        require_folder(self.root, source="chexpert")
        folder = _release_folder(self.root)
        table = _read_splits(folder, self)
        problems = Problems(self.on_problem, source="chexpert")
        start = "" if folder == self.root else f"{folder.name}/"
        raw, wanted = _parse(table, self, start, problems)
        return assemble(raw, self, problems, name="chexpert", wanted=wanted)


def _release_folder(root: Path) -> Path:
    """`root`, or the only folder in it that contains the tables."""

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
    """All tables in one, as text, with a column `split`."""
    wanted = settings.splits or [split for split in SPLITS if (folder / f"{split}.csv").is_file()]
    tables = []
    for split in wanted:
        path = folder / f"{split}.csv"
        table = read_text_table(path, required=["Path"] if split == "test" else FACTS)
        tables.append(table.assign(split=split))
    table = pd.concat(tables, ignore_index=True).fillna("")
    return table.assign(**{name: "" for name in FACTS if name not in table.columns})


def _parse(table: pd.DataFrame, settings: ChexpertData, start: str, problems: Problems) -> tuple[RawTables, Mask]:
    """The valid rows, and a mask of those that the settings ask for.

    start: the path of the release's folder in `root`.
    """
    parts = table["Path"].str.extract(PATH_PATTERN)
    bad_path = parts["inner"].isna().to_numpy()
    problems.add_all(table.loc[bad_path, "Path"].tolist(), BAD_PATH)
    labels, bad_labels = _labels(table, problems)
    parts = parts.fillna("")
    images = image_table(
        image_id=parts["image_id"],
        path=start + parts["inner"],
        patient_id=parts["patient_id"],
        study_id=parts["patient_id"] + "/" + parts["study"],
        view=parts["view"],
        sex=sexes(table["Sex"].replace("Unknown", ""), problems),
        age=ages(table["Age"], problems, low=1),
        split=table["split"],
    )
    wanted = _wanted(parts["view"], table["AP/PA"], settings, problems)
    valid = ~(bad_path | bad_labels)
    return RawTables(images, labels, empty_boxes()).keep(valid), wanted[valid]


def _labels(table: pd.DataFrame, problems: Problems) -> tuple[pd.DataFrame, Mask]:
    findings = table.drop(columns=[*FACTS, "split"])
    return finding_labels(findings, CHEXPERT_NAMES, table["Path"], problems)


def _wanted(view: "pd.Series[str]", projection: "pd.Series[str]", settings: ChexpertData, problems: Problems) -> Mask:
    """(N,) True for the rows that the settings ask for; the others are counted."""
    wanted = in_view(view, settings.view, problems)
    if settings.odd_projections == "exclude":
        odd = projection.isin(["LL", "RL"]).to_numpy() & wanted
        wanted &= ~odd
        problems.count("images excluded by `odd_projections: exclude`", int(odd.sum()))
    return wanted

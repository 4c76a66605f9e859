"""SPR X-Ray Age and Gender: 10,702 radiographs with the patient's age and sex, and 11,747 without (2023).

Source: kaggle.com/competitions/spr-x-ray-gender and spr-x-ray-age, Sociedade Paulista de Radiologia. Terms: the
competitions' rules.

As released: ``train_gender.csv`` (imageId, gender) and ``train_age.csv`` (imageId, age), of which one is enough, and
the images ``kaggle/kaggle/train/000000.png`` and ``kaggle/kaggle/test/000000.png``, named by imageId with six digits.
The folders train and test may also lie in `root` or in ``kaggle``.

Quirks of the release, and what this module does about them:

- `gender` is 1 for male and 0 for female, as public code for the competition reads it; the release's own explanation
  could not be checked.
- The label is "Male", which is not a finding: 1 or 0, and NaN for the test part, which has no labels.
- Patients are unknown: `patient_id` is "", so images are split one by one.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cxr.config import UserError
from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.files_on_disk import find_images, require_folder
from cxr.datasets.text_cells import ages, look_up
from cxr.datasets.text_files import read_text_table
from cxr.tables import Dataset, DataSettings, Problems, empty_boxes, image_table

LABEL = "Male"
SEXES = {"1": "M", "0": "F"}
TABLES = {"gender": "train_gender.csv", "age": "train_age.csv"}

BAD_SEX = "gender other than 1 and 0"
NO_NUMBER = "imageId that is no number"


class SprData(DataSettings):
    """The folder of the competitions, and which part of it to load."""

    dataset: Literal["spr"] = "spr"
    part: Literal["train", "test", "all"] = "train"
    """The test part has no labels."""

    def read(self) -> Dataset:
        """Load the tables and list the images."""
        require_folder(self.root, source="spr")
        problems = Problems(self.on_problem, source="spr")
        parts = [_train(self.root, problems)] if self.part != "test" else []
        if self.part != "train":
            parts.append(_test(self.root))
        images = pd.concat(parts, ignore_index=True)
        labels = pd.DataFrame({LABEL: images["sex"].map({"M": 1.0, "F": 0.0}).astype(np.float64)})
        return assemble(RawTables(images, labels, empty_boxes()), self, problems, name="spr")


def _train(root: Path, problems: Problems) -> pd.DataFrame:
    read = [
        read_text_table(root / name, required=["imageId", column])[["imageId", column]].drop_duplicates("imageId")
        for column, name in TABLES.items()
        if (root / name).is_file()
    ]
    if not read:
        raise UserError(f"spr: no {' or '.join(TABLES.values())} in {root}; correct `root`")
    table = read[0] if len(read) == 1 else read[0].merge(read[1], on="imageId", how="outer", sort=False).fillna("")
    table = table.reindex(columns=["imageId", *TABLES], fill_value="")
    number = table["imageId"].str.strip().str.removesuffix(".0")
    bad = ~number.str.fullmatch(r"\d{1,6}")
    problems.add_all(table.loc[bad, "imageId"], NO_NUMBER)
    gender = table["gender"].str.strip().str.removesuffix(".0")
    bad_sex = ~gender.isin([*SEXES, ""])
    problems.add_all((table["imageId"] + ", gender " + table["gender"])[bad_sex], BAD_SEX)
    stems = number.str.zfill(6)
    found = _images(root, "train")
    images = image_table(
        image_id="train_" + stems,
        path=[found.get(stem, f"kaggle/kaggle/train/{stem}.png") for stem in stems],
        sex=look_up(gender, SEXES),
        age=ages(table["age"], problems),
        view="frontal",
        split="train",
    )
    return images[~(bad | bad_sex).to_numpy()]


def _test(root: Path) -> pd.DataFrame:
    found = _images(root, "test")
    if not found:
        raise UserError(f"spr: no images in a folder test below {root}; correct `root`, or set `part: train`")
    stems = sorted(found)
    return image_table(
        image_id=[f"test_{stem}" for stem in stems], path=[found[stem] for stem in stems], view="frontal", split="test"
    )


def _images(root: Path, part: str) -> dict[str, str]:
    """Stem -> path of the images in folders of this name."""
    found: dict[str, str] = {}
    for folder in (root / part, root / "kaggle" / part, root / "kaggle" / "kaggle" / part):
        start = folder.relative_to(root).as_posix()
        found.update({stem: f"{start}/{path}" for stem, path in find_images(folder).items()})
    return found

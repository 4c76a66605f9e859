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
from cxr.datasets.keyed_rows import KeyedRows, keyed_rows, row_names
from cxr.datasets.text_cells import ages, look_up
from cxr.datasets.text_files import read_text_table
from cxr.tables import Dataset, DataSettings, Problems, empty_boxes, image_table

LABEL = "Male"
SEXES = {"1": "M", "0": "F"}
TABLES = {"gender": "train_gender.csv", "age": "train_age.csv"}

BAD_SEX = "gender other than 1 and 0"
NO_NUMBER = "imageId that is no number of up to six digits"


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
    """The images that the tables list, without those of which a table says nothing sound."""
    tables = {column: root / name for column, name in TABLES.items() if (root / name).is_file()}
    if not tables:
        raise UserError(f"spr: no {' or '.join(TABLES.values())} in {root}; correct `root`")
    known = {column: _by_stem(path, column, problems) for column, path in tables.items()}
    stems = pd.Series(list(dict.fromkeys(stem for rows in known.values() for stem in rows.rows.index)), dtype=str)
    blank = pd.Series("", index=stems.index, dtype=str)
    gender, age = (known[column].of(stems, column) if column in known else blank for column in TABLES)
    bad_sex = ~gender.isin([*SEXES, ""])
    problems.add_all((stems + ", gender " + gender)[bad_sex], BAD_SEX)
    found = _images(root, "train")
    images = image_table(
        image_id="train_" + stems,
        path=[found.get(stem, f"kaggle/kaggle/train/{stem}.png") for stem in stems],
        sex=look_up(gender, SEXES),
        age=ages(age, problems),
        view="frontal",
        split="train",
    )
    differing = np.any([rows.contradicts(stems) for rows in known.values()], axis=0)
    sound: pd.DataFrame = images[~(bad_sex.to_numpy() | differing)]
    return sound


def _by_stem(path: Path, column: str, problems: Problems) -> KeyedRows:
    """What a table says of each image, by the stem of its file: six digits. A number may end in .0."""
    table = read_text_table(path, required=["imageId", column])
    number, value = (table[name].str.strip().str.removesuffix(".0") for name in ("imageId", column))
    sound = number.str.fullmatch(r"[0-9]{1,6}")
    problems.add_all(table.loc[~sound, "imageId"], NO_NUMBER)
    where = [name for name, kept in zip(row_names(path, table), sound, strict=True) if kept]
    return keyed_rows(pd.DataFrame({column: value[sound]}), number[sound].str.zfill(6), problems, where=where)


def _test(root: Path) -> pd.DataFrame:
    found = _images(root, "test")
    if not found:
        raise UserError(f"spr: no images in a folder test below {root}; correct `root`, or set `part: train`")
    stems = sorted(found)
    return image_table(
        image_id=[f"test_{stem}" for stem in stems], path=[found[stem] for stem in stems], view="frontal", split="test"
    )


def _images(root: Path, part: str) -> dict[str, str]:
    """Stem -> path of the images in the folder of this name. UserError if there are two."""
    folders = [folder for folder in (root, root / "kaggle", root / "kaggle" / "kaggle") if (folder / part).is_dir()]
    if len(folders) > 1:
        raise UserError(f"spr: {folders[0]} and {folders[1]} both have a folder {part}; set `root` to one of them")
    start = (folders[0] / part).relative_to(root).as_posix() if folders else ""
    return {stem: f"{start}/{path}" for folder in folders for stem, path in find_images(folder / part).items()}

"""CheXlocalize: masks of 10 findings, drawn by radiologists, on CheXpert's validation and test images.

Source: Saporta et al. 2022, doi:10.1038/s42256-022-00536-x; Stanford AIMI. Stanford's research use agreement:
non-commercial, not to be redistributed.

As released: ``CheXlocalize/gt_segmentations_val.json`` and ``..._test.json`` (image -> finding -> COCO run lengths in
the size of the original image), ``CheXpert/val_labels.csv`` and ``CheXpert/test_labels.csv`` (Path and findings, 1 or
0), and the images in ``CheXpert/val`` and ``CheXpert/test``. The first release had ``CheXpert-v1.0/valid.csv`` and
``CheXpert-v1.0/valid``. Files are found by their names below `root`, which may hold only one of the parts.

Quirks of the release, and what this module does about them:

- Images are named ``patient64541_study1_view1_frontal``, in the folders patient64541/study1/view1_frontal.jpg.
- "Airspace Opacity" of the masks is "Lung Opacity" of the labels.
- Only images with a positive label are listed, each with all 10 findings; a mask without pixels means none. Labels are
  those of the label table. A positive label without a mask is counted: its place is unknown.
- A mask may have several parts: each part is a box with its mask, as if it had been marked by itself.
- Masks are in pixels of the original image and are scaled to the size of the file (CheXpert-v1.0-small is smaller).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from cxr.arrays import Bools
from cxr.config import UserError
from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.box_rows import mask_boxes
from cxr.datasets.chexpert import BAD_PATH, FACTS
from cxr.datasets.files_on_disk import require_folder
from cxr.datasets.text_cells import ages, finding_labels, known_names, sexes
from cxr.datasets.text_files import read_text_table
from cxr.datasets.views import WantedView, in_view
from cxr.input_files import read_json
from cxr.labels import CHEXPERT_NAMES
from cxr.labels.release_names import CHEXLOCALIZE_NAMES
from cxr.masks import Mask, area_of, mask_of_coco, parts_of
from cxr.tables import Dataset, DataSettings, Problems, image_table

Split = Literal["valid", "test"]
FOLDERS: dict[Split, tuple[str, ...]] = {"valid": ("val", "valid"), "test": ("test",)}
"""Split -> the folder of its images, by release."""
MASK_FILES: dict[Split, tuple[str, ...]] = {
    "valid": ("gt_segmentations_val.json",),
    "test": ("gt_segmentations_test.json",),
}
LABEL_TABLES: dict[Split, tuple[str, ...]] = {
    "valid": ("val_labels.csv", "valid.csv"),
    "test": ("test_labels.csv", "test.csv"),
}
PATH_PATTERN = (
    r"(?P<patient>patient\d+)/(?P<study>study\d+)/(?P<name>view\d+_(?P<view>frontal|lateral))(?P<ending>\.\w+)$"
)

BAD_MASK = "unreadable mask"
UNKNOWN_IMAGE = "masks of an image that is not in the label table"
AGAINST_LABEL = "masks of a finding whose label is not 1"
WITHOUT_MASK = "positive labels of the masked findings without a mask"


class ChexlocalizeData(DataSettings):
    """The folder of CheXlocalize, and which images to load."""

    dataset: Literal["chexlocalize"] = "chexlocalize"
    view: WantedView = "frontal"
    splits: tuple[Split, ...] | None = None
    """Parts to load. None: all whose masks exist."""

    def read(self) -> Dataset:
        """Load the label tables and the masks; 668 images of the test part have some 900 masks."""
        require_folder(self.root, source="chexlocalize")
        problems = Problems(self.on_problem, source="chexlocalize")
        there: list[Split] = [split for split in FOLDERS if _find(self.root, MASK_FILES[split]) is not None]
        wanted = self.splits or there
        if not wanted:
            raise UserError(f"chexlocalize: no gt_segmentations_val.json or _test.json in {self.root}; correct `root`")
        parts, masks = zip(*(_read_part(self, split, problems) for split in wanted), strict=True)
        raw = RawTables(
            images=pd.concat([part.images for part in parts], ignore_index=True),
            labels=pd.concat([part.labels for part in parts], ignore_index=True),
            boxes=pd.concat([part.boxes for part in parts], ignore_index=True),
        )
        return assemble(raw, self, problems, name="chexlocalize", wanted=np.concatenate(masks))


def _find(root: Path, names: Sequence[str]) -> Path | None:
    """The first of the files in `root` or a folder in it."""
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    return next((folder / name for folder in folders for name in names if (folder / name).is_file()), None)


def _require(root: Path, names: Sequence[str]) -> Path:
    found = _find(root, names)
    if found is None:
        raise UserError(
            f"chexlocalize: no {' or '.join(names)} in {root} or a folder in it; correct `root` or `splits`"
        )
    return found


def _read_part(settings: ChexlocalizeData, split: Split, problems: Problems) -> tuple[RawTables, Bools]:
    """The sound images of one part with labels and masks, and which of them have the wanted view."""
    masks_file, label_table = (_require(settings.root, names[split]) for names in (MASK_FILES, LABEL_TABLES))
    table = read_text_table(label_table, required=["Path"])
    parts = table["Path"].str.extract(PATH_PATTERN)
    bad_path = parts["patient"].isna().to_numpy()
    problems.add_all(table.loc[bad_path, "Path"], BAD_PATH)
    findings = table.drop(columns=[name for name in FACTS if name in table.columns])
    labels, bad_labels = finding_labels(findings, CHEXPERT_NAMES, table["Path"], problems)
    start = _image_folder(label_table.parent, split).relative_to(settings.root).as_posix()
    images = _images(table, parts.fillna(""), start, problems).assign(split=split)
    boxes = _boxes(masks_file, images["image_id"], problems)
    _compare(images["image_id"], labels, boxes, problems)
    wanted = in_view(images["view"], settings.view, problems)
    sound = ~(bad_path | bad_labels)
    return RawTables(images, labels, boxes).keep(sound), wanted[sound]


def _image_folder(folder: Path, split: Split) -> Path:
    there = [folder / name for name in FOLDERS[split] if (folder / name).is_dir()]
    return there[0] if there else folder / FOLDERS[split][0]


def _images(table: pd.DataFrame, parts: pd.DataFrame, start: str, problems: Problems) -> pd.DataFrame:
    known = {}
    if "Sex" in table.columns:
        known["sex"] = sexes(table["Sex"], problems)
    if "Age" in table.columns:
        known["age"] = ages(table["Age"], problems, low=1)
    return image_table(
        image_id=parts["patient"] + "_" + parts["study"] + "_" + parts["name"],
        path=start + "/" + parts["patient"] + "/" + parts["study"] + "/" + parts["name"] + parts["ending"],
        patient_id=parts["patient"],
        study_id=parts["patient"] + "/" + parts["study"],
        view=parts["view"],
        **known,
    )


def _boxes(path: Path, image_ids: "pd.Series[str]", problems: Problems) -> pd.DataFrame:
    """A box with its mask for each part of each mask in the file."""
    released = read_json(path, what="data", advice="check that the release is unpacked as it came")
    if not isinstance(released, dict) or not all(isinstance(masks, dict) for masks in released.values()):
        raise UserError(f"data: {path} is not image -> finding -> mask; is it another file?")
    known = set(image_ids)
    problems.add_all([image_id for image_id in released if image_id not in known], UNKNOWN_IMAGE)
    own = {image_id: masks for image_id, masks in released.items() if image_id in known}
    names = known_names([name for masks in own.values() for name in masks], CHEXLOCALIZE_NAMES, problems)
    rows = [
        (image_id, names[name], part)
        for image_id, masks in own.items()
        for name, mask in masks.items()
        if name in names
        for part in _parts(mask, f"{image_id}, {name}", problems)
    ]
    return mask_boxes(pd.DataFrame(rows, columns=["image_id", "finding", "mask"]))


def _parts(mask: Any, what: str, problems: Problems) -> Iterator[Mask]:
    try:
        whole = mask_of_coco(mask) if isinstance(mask, dict) else None
    except ValueError as error:
        problems.add(f"{what} ({error})", BAD_MASK)
        return
    if whole is None:
        problems.add(f"{what} (expected size and counts)", BAD_MASK)
    elif area_of(whole):
        yield from parts_of(whole)


def _compare(image_ids: "pd.Series[str]", labels: pd.DataFrame, boxes: pd.DataFrame, problems: Problems) -> None:
    """Count masks without a positive label, and positive labels without a mask."""
    masked = set(zip(boxes["image_id"], boxes["finding"], strict=True))
    findings = [name for name in labels.columns if name in CHEXLOCALIZE_NAMES.values()]
    positive = {(image, name) for name in findings for image in image_ids[(labels[name] == 1).to_numpy()]}
    problems.count(AGAINST_LABEL, len(masked - positive))
    problems.count(WITHOUT_MASK, len(positive - masked))

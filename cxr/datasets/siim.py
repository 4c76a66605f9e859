"""SIIM-ACR Pneumothorax Segmentation (2019): frontal radiographs of NIH ChestX-ray14 with masks of pneumothoraces.

Source: kaggle.com/c/siim-acr-pneumothorax-segmentation. Terms: the competition's rules, and NIH's acknowledgement for
the images.

As released: ``train-rle.csv`` (ImageId, EncodedPixels; one row per mask) and
``dicom-images-train/<study>/<series>/<ImageId>.dcm`` (1024 x 1024). Images are found by their stem anywhere under
`root`, so that copies as PNG or JPEG can be used. Tables of other names have the same columns: see `table`.

Quirks of the release, and what this module does about them:

- The second column's name begins with a space: names are stripped.
- ``-1`` instead of a mask: no pneumothorax. An image with several masks has several rows.
- A mask is a list of pairs: the distance from the end of the previous run, and the run's length, down the columns of
  the 1024 x 1024 image. That is not the absolute form of other competitions.
- There are no boxes: each box encloses one mask, which stays with it (`cxr.tables.MASK_COLUMN`).
- Patients are unknown: `patient_id` is "", so images are split one by one.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cxr.datasets.assemble import RawTables, assemble
from cxr.datasets.box_rows import mask_boxes
from cxr.datasets.files_on_disk import find_images, require_folder
from cxr.datasets.inside_root import inside
from cxr.datasets.text_files import read_text_table, require_columns
from cxr.masks import Mask, mask_of_runs
from cxr.tables import Dataset, DataSettings, Problems, image_table

FINDING = "Pneumothorax"
FRAME_PX = 1024
NO_MASK = "-1"

BAD_MASK = "mask that is neither -1 nor pairs of distances and lengths of runs within 1024 x 1024 pixels"
MIXED = "image with a mask and a row of -1"


class SiimData(DataSettings):
    """The folder of the competition."""

    dataset: Literal["siim"] = "siim"
    table: Path = Path("train-rle.csv")
    """Relative to `root` and below it, or absolute."""

    def read(self) -> Dataset:
        """Load the table of masks and find the images."""
        require_folder(self.root, source="siim")
        problems = Problems(self.on_problem, source="siim")
        table = read_text_table(inside(self.root, self.table, key="data.table")).rename(columns=str.strip)
        require_columns(table, ["ImageId", "EncodedPixels"], source=str(self.root / self.table))
        images = table["ImageId"].drop_duplicates().reset_index(drop=True)
        masks, bad = _masks(table, problems)
        boxes = mask_boxes(masks.assign(finding=FINDING))
        labels = pd.DataFrame({FINDING: images.isin(boxes["image_id"]).astype(np.float64)})
        raw = RawTables(_images(images, self.root), labels, boxes).keep(~images.isin(bad))
        return assemble(raw, self, problems, name="siim")


def _masks(table: pd.DataFrame, problems: Problems) -> tuple[pd.DataFrame, set[str]]:
    """Columns image_id and mask of the rows with one, and the images with an invalid row."""
    rows: list[tuple[str, Mask]] = []
    bad = set()
    for image_id, text in zip(table["ImageId"], table["EncodedPixels"].str.strip(), strict=True):
        if text == NO_MASK:
            continue
        try:
            rows.append((image_id, mask_of_text(text)))
        except ValueError as error:
            problems.add(f"{image_id}, {text[:40]!r} ({error})", BAD_MASK)
            bad.add(image_id)
    masks = pd.DataFrame(rows, columns=["image_id", "mask"])
    mixed = set(table.loc[table["EncodedPixels"].str.strip() == NO_MASK, "ImageId"]) & {*masks["image_id"], *bad}
    problems.add_all(sorted(mixed), MIXED)
    return masks[~masks["image_id"].isin(mixed | bad)], mixed | bad


def mask_of_text(text: str) -> Mask:
    """The mask of a cell such as ``557374 2 1015 8``. ValueError if it is none."""
    runs = [int(number) for number in text.split()]
    if not runs or len(runs) % 2 or min(runs[1::2]) < 1:
        raise ValueError(f"{len(runs)} numbers, expected pairs whose second number is at least 1")
    return mask_of_runs(runs, (FRAME_PX, FRAME_PX))


def _images(image_ids: "pd.Series[str]", root: Path) -> pd.DataFrame:
    found = find_images(root)
    paths = [found.get(image_id, f"dicom-images-train/{image_id}.dcm") for image_id in image_ids]
    return image_table(image_id=image_ids, path=paths, view="frontal", split="train")

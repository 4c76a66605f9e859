"""SIIM-ACR's reader: relative runs down the columns become masks, and masks become boxes."""

from pathlib import Path

import numpy as np
import pytest

from cxr.config import UserError
from cxr.datasets.siim import BAD_MASK, MIXED, SiimData, mask_of_text
from cxr.masks import area_of, masks_in, pixels_of
from tests.builders import write_picture
from tests.cxr.datasets.release_builders import siim_folder
from tests.paths import SAMPLES, needs_samples


def test_runs_are_relative_and_go_down_the_columns() -> None:
    pixels = pixels_of(mask_of_text("2 3 1021 1"))
    assert np.argwhere(pixels).tolist() == [[2, 0], [2, 1], [3, 0], [4, 0]]


def test_masks_and_boxes_are_scaled_to_the_file(tmp_path: Path) -> None:
    """40 rows and 60 columns of 1024 each: 256 rows are 10, 512 columns are 30."""
    data = SiimData(root=siim_folder(tmp_path)).read()
    assert data.images["path"].tolist() == [
        "dicom-images-train/study0/series0/1.2.3.png",
        "dicom-images-train/study1/series1/1.2.4.png",
    ]
    assert data.labels["Pneumothorax"].tolist() == [1, 0]
    assert data.boxes.iloc[:, :7].to_numpy().tolist() == [
        ["1.2.3", "Pneumothorax", 0, 20, 30, 30, ""],
        ["1.2.3", "Pneumothorax", 30, 0, 30.1171875, 10, ""],
    ]
    first, second = masks_in(data.boxes)
    assert first is not None
    assert second is not None
    expected = np.zeros((40, 60), dtype=np.uint8)
    expected[20:30, :30] = 1
    assert (pixels_of(first) == expected).all()
    assert (second.size_hw, area_of(second)) == ((40, 60), 10)


def test_boxes_of_one_image_keep_their_masks(tmp_path: Path) -> None:
    data = SiimData(root=siim_folder(tmp_path)).read()
    assert data.select(["1.2.4"]).boxes.columns.tolist() == data.boxes.columns.tolist()
    assert masks_in(data.select(["1.2.3"]).boxes) == masks_in(data.boxes)


BROKEN = {
    "an odd number": ("5 2 3", BAD_MASK),
    "no number": ("5 two", BAD_MASK),
    "blank": ("", BAD_MASK),
    "an empty run": ("5 0", BAD_MASK),
    "a negative distance": ("5 2 -3 2", BAD_MASK),
    "beyond the image": (f"{1024 * 1024} 1", BAD_MASK),
    "-1 and a mask": ("-1", MIXED),
}


@pytest.mark.parametrize("case", BROKEN)
def test_defect_is_an_error_or_a_named_exclusion(tmp_path: Path, case: str) -> None:
    text, reason = BROKEN[case]
    root = siim_folder(tmp_path, rows=[("1.2.3", text)])
    with pytest.raises(UserError, match=reason):
        SiimData(root=root).read()
    data = SiimData(root=root, on_problem="exclude").read()
    assert [item.reason for item in data.excluded] == [reason]
    assert data.images["image_id"].tolist() == ["1.2.4"]
    assert data.boxes.empty


def test_another_table(tmp_path: Path) -> None:
    root = siim_folder(tmp_path)
    (root / "train-rle.csv").rename(root / "masks.csv")
    assert len(SiimData(root=root, table="masks.csv").read().boxes) == 2
    with pytest.raises(UserError, match=r"train-rle\.csv"):
        SiimData(root=root).read()
    (root / "masks.csv").write_text("ImageId,Mask\n", encoding="utf-8")
    with pytest.raises(UserError, match="no column 'EncodedPixels'"):
        SiimData(root=root, table="masks.csv").read()


@needs_samples
@pytest.mark.parametrize(("name", "images", "masks"), [("", 40, 9), ("_odd", 14, 20)])
def test_rows_of_the_release(tmp_path: Path, name: str, images: int, masks: int) -> None:
    table = SAMPLES / f"siim_train_rle{name}.csv"
    rows = [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    for image_id in {row[0] for row in rows}:
        write_picture(tmp_path / f"{image_id}.png", (1024, 1024))
    data = SiimData(root=tmp_path, table=table).read()
    assert (len(data.images), len(data.boxes)) == (images, masks)
    areas = [area_of(mask) for mask in masks_in(data.boxes) if mask is not None]
    assert areas == [sum(map(int, row[1].split()[1::2])) for row in rows if row[1] != "-1"]

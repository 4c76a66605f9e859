"""Boxes of smaller copies lie in the right place, or are refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cxr.config import UserError
from cxr.datasets.csv_table import CsvTableData
from cxr.datasets.vindr import VindrData
from cxr.tables import Dataset
from tests.builders import csv_folder, csv_settings, kaggle_folder, write_rows

LARGE = ("p2/b.png", "effusion", 300, 80, 600, 200)
"""A box on an original of 600 x 400 px (W x H); the files have 60 x 40."""
PLACE = [30, 8, 60, 20]
CORNERS = ["x1", "y1", "x2", "y2"]


def read(root: Path, *, sizes: Mapping[str, str] | None = None, **changes: Any) -> Dataset:
    values = dict(csv_settings(root, **changes))
    values["boxes"] = {**values["boxes"], **(sizes or {})}  # type: ignore[dict-item]
    return CsvTableData.model_validate(values).read()


def with_columns(root: Path, table: str, sizes: list[tuple[object, object]]) -> Path:
    """Add the columns wide and high to a table of `csv_folder`."""
    lines = (root / table).read_text(encoding="utf-8").splitlines()
    added = [("wide", "high"), *sizes]
    text = "\n".join(f"{line},{wide},{high}" for line, (wide, high) in zip(lines, added, strict=True))
    (root / table).write_text(text + "\n", encoding="utf-8")
    return root


def test_no_box_needs_no_size(tmp_path: Path) -> None:
    csv_folder(tmp_path)
    write_rows(tmp_path / "boxes.csv", ("file", "label", "left", "top", "right", "bottom"), [])
    assert read(tmp_path, box_frame=[400, 600]).boxes.empty


@pytest.mark.parametrize("on_problem", ["error", "exclude"])
def test_boxes_of_copies_without_a_size_are_refused(tmp_path: Path, on_problem: str) -> None:
    """Also the box that lies inside its file, and also if problems are excluded."""
    with pytest.raises(UserError, match=r"1 of 2 boxes .* p2/b: .* height 40, width 60.*box_frame"):
        read(csv_folder(tmp_path, boxes=[LARGE]), on_problem=on_problem)


def test_one_size_of_all_originals(tmp_path: Path) -> None:
    data = read(csv_folder(tmp_path, boxes=[LARGE]), box_frame=[400, 600])
    assert data.boxes[CORNERS].to_numpy().tolist() == [pytest.approx([0.5, 0.6, 1.5, 2.6]), PLACE]


def test_a_box_far_outside_is_only_a_problem_of_its_own_if_boxes_are_in_pixels_of_the_file(tmp_path: Path) -> None:
    root = csv_folder(tmp_path, boxes=[LARGE])
    with pytest.raises(UserError, match="box outside the image"):
        read(root, box_frame="file")
    assert len(read(root, box_frame="file", on_problem="exclude").boxes) == 1


def test_sizes_in_the_box_table(tmp_path: Path) -> None:
    root = with_columns(csv_folder(tmp_path, boxes=[LARGE]), "boxes.csv", [(60, 40), (600, 400)])
    data = read(root, sizes={"width": "wide", "height": "high"})
    assert data.boxes[CORNERS].to_numpy().tolist() == [[5, 6, 15, 26], PLACE]


def test_sizes_in_the_image_table(tmp_path: Path) -> None:
    root = with_columns(csv_folder(tmp_path, boxes=[LARGE]), "images.csv", [(60, 40), (600, 400)])
    columns = {"image": "file", "width": "wide", "height": "high"}
    assert read(root, columns=columns).boxes[CORNERS].to_numpy().tolist() == [[5, 6, 15, 26], PLACE]


def test_a_box_without_a_size_is_a_problem(tmp_path: Path) -> None:
    root = with_columns(csv_folder(tmp_path, boxes=[LARGE]), "images.csv", [("", ""), (600, 400)])
    columns = {"image": "file", "width": "wide", "height": "high"}
    with pytest.raises(UserError, match="original size is no positive number"):
        read(root, columns=columns)
    assert read(root, columns=columns, on_problem="exclude").boxes[CORNERS].to_numpy().tolist() == [PLACE]


@pytest.mark.parametrize("part", ["columns", "boxes"])
def test_width_without_height_is_a_mistake(tmp_path: Path, part: str) -> None:
    values = dict(csv_settings(tmp_path))
    values[part] = {**values[part], "width": "wide"}  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="go together"):
        CsvTableData.model_validate(values)


@pytest.mark.parametrize("check_files", ["none", "exist"])
def test_pictures_of_vindr_need_the_original_size(tmp_path: Path, check_files: str) -> None:
    root = kaggle_folder(tmp_path, suffix=".png")
    with pytest.raises(UserError, match=r"2 files that are no DICOM, for instance train/a.png.*box_frame"):
        VindrData.model_validate({"root": root, "check_files": check_files, "on_problem": "exclude"}).read()


def test_a_setting_comes_before_columns(tmp_path: Path) -> None:
    root = with_columns(csv_folder(tmp_path, boxes=[LARGE]), "boxes.csv", [(1, 1), (1, 1)])
    data = read(root, sizes={"width": "wide", "height": "high"}, box_frame=[400, 600])
    assert data.boxes[CORNERS].to_numpy().tolist()[1] == PLACE


def test_a_box_of_vindr_is_scaled_by_the_setting(tmp_path: Path) -> None:
    data = VindrData(root=kaggle_folder(tmp_path, suffix=".png"), box_frame=(80, 120)).read()
    assert data.boxes[CORNERS].to_numpy().tolist()[0] == [5, 10, 15, 20]

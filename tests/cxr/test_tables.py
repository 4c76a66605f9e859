"""What all readers share: problems told at once, label columns merged, boxes fitted, tables guarded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.config import UserError
from cxr.datasets.box_checks import CLIPPED, fit_into_images
from cxr.datasets.files_on_disk import Sizes, files_exist, images_by_stem, read_sizes
from cxr.datasets.text_cells import merge_columns
from cxr.datasets.vindr import VindrData
from cxr.tables import BOX_COLUMNS, Exclusion, Problems, box_table, count_reasons, empty_boxes, image_table
from cxr.threads import in_threads
from tests.builders import kaggle_folder, write_picture


def test_no_problem_is_no_error() -> None:
    assert Problems("error", source="set").finish() == ()


def test_all_problems_in_one_error() -> None:
    problems = Problems("error", source="set")
    problems.add_all([f"image {number}" for number in range(24)], "missing image")
    problems.add("box 1", "inverted or empty box")
    with pytest.raises(UserError) as caught:
        problems.finish()
    lines = caught.value.problems
    assert lines[0] == "set: image 0: missing image"
    assert lines[20] == "set: and 5 more"
    assert "25 problems (24 x missing image, 1 x inverted or empty box)" in lines[21]
    assert len(lines) == 22


def test_defects_that_are_summed_up_have_no_line_each() -> None:
    problems = Problems("error", source="set")
    problems.add_all(["a", "b"], "bad label")
    problems.sum_up("bad label", ["column 'x' has 'oui'"])
    problems.add("c", "missing image")
    with pytest.raises(UserError) as caught:
        problems.finish()
    assert caught.value.problems[:2] == ["set: column 'x' has 'oui'", "set: c: missing image"]
    assert "3 problems (2 x bad label, 1 x missing image)" in caught.value.problems[2]


def test_a_problem_is_one_line_whatever_the_table_holds() -> None:
    problems = Problems("exclude", source="set")
    problems.add_all(["", "Épanchement, a b", "a\nb\u2028\udcff", "9" * 400], "missing image")
    assert [item.what for item in problems.finish()] == [
        "''",
        "Épanchement, a b",
        "a\\nb\\u2028\\udcff",
        "9" * 300 + "...",
    ]


def test_excluded_problems_are_counted() -> None:
    problems = Problems("exclude", source="set")
    problems.add("a", "missing image")
    problems.exclude("b", "twin")
    problems.add("c", "missing image")
    excluded = problems.finish()
    assert set(excluded) == {Exclusion("a", "missing image"), Exclusion("c", "missing image"), Exclusion("b", "twin")}
    assert count_reasons(excluded) == {"missing image": 2, "twin": 1}


def test_what_a_rule_leaves_out_is_no_error() -> None:
    problems = Problems("error", source="set")
    problems.exclude("b", "twin")
    assert problems.finish() == (Exclusion("b", "twin"),)


def test_nothing_counted_is_not_recorded() -> None:
    problems = Problems("error", source="set")
    problems.count("clipped", 0)
    assert problems.counts == {}


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [(1, -1, 1), (-1, 0, -1), (0, np.nan, 0), (np.nan, np.nan, np.nan), (np.nan, 1, 1), (0, 0, 0)],
)
def test_merged_columns(first: float, second: float, merged: float) -> None:
    values = pd.DataFrame({"a": [first], "b": [second]})
    result = merge_columns(values, {"a": "Edema", "b": "Edema"})
    assert result.columns.tolist() == ["Edema"]
    assert np.array_equal(result.to_numpy(), [[merged]], equal_nan=True)


def test_empty_box_table_has_columns_and_types() -> None:
    boxes = empty_boxes()
    assert boxes.columns.tolist() == BOX_COLUMNS
    assert boxes["x1"].dtype == np.float64
    assert len(fit_into_images(boxes, {}, Problems("error", source="set"))) == 0


def test_image_table_fills_in_what_is_unknown() -> None:
    row = image_table(image_id=["a"], path=["a.png"]).iloc[0]
    assert row[["region", "patient_id", "view", "sex", "split"]].tolist() == ["full", "", "", "", ""]
    assert np.isnan(row["age"])


@pytest.mark.parametrize(
    ("corners", "fitted"),
    [
        ((-0.6, 0, 30, 40), (0, 0, 30, 40)),
        ((0, -0.4, 30, 40.4), (0, 0, 30, 40)),
        ((-0.7, 0, 30, 40), None),
        ((0, 0, 30, 40.5), None),
        ((5, 6, 30, 39), (5, 6, 30, 39)),
    ],
)
def test_overhang_of_one_percent_of_its_own_side(corners: tuple[float, ...], fitted: tuple[float, ...] | None) -> None:
    """An image 40 high and 60 wide: 0.4 px vertically, 0.6 horizontally."""
    names = ["x1", "y1", "x2", "y2"]
    boxes = box_table(pd.DataFrame([corners], columns=names).assign(image_id="a", finding="Edema"))
    problems = Problems("exclude", source="set")
    kept = fit_into_images(boxes, {"a": (40, 60)}, problems)
    assert kept[names].to_numpy().tolist() == ([] if fitted is None else [list(fitted)])
    assert problems.counts[CLIPPED] == int(fitted is not None and fitted != corners)
    assert len(problems.finish()) == int(fitted is None)


def test_dataset_guards_its_tables(tmp_path: Path) -> None:
    data = VindrData(root=kaggle_folder(tmp_path)).read()
    with pytest.raises(AssertionError):
        replace(data, labels=data.labels.iloc[::-1])
    with pytest.raises(AssertionError):
        replace(data, images=data.images.drop(columns="age"))


def test_selected_images_keep_table_order(tmp_path: Path) -> None:
    data = VindrData(root=kaggle_folder(tmp_path)).read().select(["c", "a"])
    assert data.images["image_id"].tolist() == ["a", "c"]
    assert data.labels.index.tolist() == ["a", "c"]
    assert len(data.boxes) == 3
    with pytest.raises(KeyError, match="'z'"):
        data.select(["a", "z"])


def test_no_file_at_all(tmp_path: Path) -> None:
    assert files_exist(tmp_path, []).tolist() == []
    assert read_sizes(tmp_path, []) == Sizes({}, {}, 0)
    assert images_by_stem(tmp_path / "nowhere") == {}


def test_sizes_are_height_and_width(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", (40, 60))
    (tmp_path / "b.png").write_bytes(b"no picture")
    sizes = read_sizes(tmp_path, ["a.png", "b.png", "c.png"])
    assert sizes.hw == {"a.png": (40, 60)}
    assert set(sizes.reasons) == {"b.png", "c.png"}
    assert sizes.num_turned == 0


def test_png_wins_over_dicom_of_one_stem(tmp_path: Path) -> None:
    for name in ("a.dicom", "a.png", "b.dicom", "notes.txt"):
        (tmp_path / name).touch()
    assert images_by_stem(tmp_path) == {"a": "a.png", "b": "b.dicom"}


@pytest.mark.parametrize("num", [0, 1, 15, 17, 5000])
def test_threads_keep_the_order(num: int) -> None:
    assert in_threads(lambda part: [2 * item for item in part], range(num)) == [2 * item for item in range(num)]

"""Copies of seen images are found by what they show, whatever they are called."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr.config import UserError
from cxr.datasets.several import combine
from cxr.imaging.settings import InputSettings
from cxr.runs.run_folder import start_run
from cxr.tables import Dataset, OnProblem, empty_boxes, image_table
from stage1_classify.model.seen_images import (
    COLUMNS,
    COPY,
    OUTPUT,
    content_hashes,
    find_copies,
    read_seen_images,
    table_of,
    without_copies,
    write_seen_images,
)
from tests.cxr.imaging.test_content_hash import scene

INPUT = InputSettings(size_hw=(96, 128), cache_dir=None)


def folder(root: Path, scenes: Mapping[str, int], *, half: bool = False) -> Dataset:
    """PNGs of scenes, by name and seed; half: as JPEGs of half the size."""
    root.mkdir(parents=True)
    ending = ".jpg" if half else ".png"
    for name, seed in scenes.items():
        picture = scene(seed)
        shown = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) if half else picture
        assert cv2.imwrite(str(root / f"{name}{ending}"), shown)
    names = list(scenes)
    images = image_table(image_id=names, path=[f"{name}{ending}" for name in names])
    labels = pd.DataFrame({"Edema": 0.0}, index=pd.Index(names, name="image_id"))
    return Dataset(root.name, root, images, labels, empty_boxes())


def checked(
    data: Dataset, seen: pd.DataFrame, on_problem: OnProblem | Mapping[str, OnProblem], *, same_set: bool = True
) -> tuple[Dataset, dict[str, list[str]]]:
    """The first image is tune, the others are test."""
    ids = data.images["image_id"].tolist()
    splits = {"tune": ids[:1], "test": ids[1:]}
    hashes = content_hashes(data, INPUT)
    return without_copies(data, splits, {"test": seen}, hashes, on_problem=on_problem, same_set=same_set)


def seen_of(data: Dataset, split: Literal["train", "val"] = "train") -> pd.DataFrame:
    return table_of(data, {split: data.images["image_id"].tolist()}, content_hashes(data, INPUT))


def test_nothing_was_seen(tmp_path: Path) -> None:
    data = folder(tmp_path / "own", {"a": 0, "b": 1})
    empty = table_of(data, {"train": []}, {})
    assert empty.columns.tolist() == COLUMNS
    assert find_copies(content_hashes(data, INPUT), empty) == {}
    assert checked(data, empty, "error") == (data, {"tune": ["a"], "test": ["b"]})


def test_a_smaller_copy_in_another_data_set_is_an_error(tmp_path: Path) -> None:
    """The copy has another name, size and format; the same in a split that need not be checked is none."""
    seen = seen_of(folder(tmp_path / "first", {"x": 0, "y": 1, "z": 2}), "val")
    data = folder(tmp_path / "second", {"a": 0, "b": 1, "c": 7}, half=True)
    with pytest.raises(UserError, match=r"image b of test shows the same as first/y of val") as caught:
        checked(data, seen, "error")
    assert len(caught.value.problems) == 2


def test_copies_are_excluded_and_counted_where_the_user_says_so(tmp_path: Path) -> None:
    seen = seen_of(folder(tmp_path / "first", {"x": 0, "y": 1, "z": 2}))
    data = folder(tmp_path / "second", {"a": 0, "b": 1, "c": 7}, half=True)
    kept, splits = checked(data, seen, "exclude")
    assert splits == {"tune": ["a"], "test": ["c"]}
    assert kept.images["image_id"].tolist() == ["a", "c"]
    assert [(item.what, item.reason) for item in kept.excluded] == [("b", COPY)]


def test_several_sets_are_named_and_follow_their_own_rules(tmp_path: Path) -> None:
    first, second = folder(tmp_path / "n", {"x": 0, "y": 1}), folder(tmp_path / "s", {"a": 2, "b": 1}, half=True)
    data = combine({"north": first, "south": second})
    seen = table_of(data, {"train": ["north/y", "south/a"]}, content_hashes(data, INPUT))
    assert seen[["set", "split", "image_id"]].to_numpy().tolist() == [["north", "train", "y"], ["south", "train", "a"]]
    assert list(find_copies(content_hashes(data, INPUT), seen)) == ["north/y", "south/a", "south/b"]
    kept, splits = checked(data, seen, {"north": "error", "south": "exclude"}, same_set=False)
    assert splits["test"] == ["north/y", "south/a"]
    assert [item.what for item in kept.excluded] == ["south/b"]
    with pytest.raises(UserError, match="south/b of test shows the same as north/y of train"):
        checked(data, seen, {"north": "exclude", "south": "error"}, same_set=False)


def test_each_row_is_written_once_and_ids_stay_texts(tmp_path: Path) -> None:
    seen = pd.DataFrame([["north", "train", "007", "f" * 64], ["NA", "val", "NA", ""]], columns=COLUMNS)
    write_seen_images(tmp_path / "seen.csv", [seen, seen])
    found = pd.read_csv(tmp_path / "seen.csv", dtype=str, keep_default_na=False)
    np.testing.assert_array_equal(found.to_numpy(), seen.to_numpy())


def test_the_table_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    run = start_run(tmp_path / "run", stage="stage1", settings=INPUT, inputs={})
    table = run.dir / "seen_images.csv"
    table.write_text("set,split,image_id,looks\nfirst,train,x,ff\n")
    run.finish({}, {OUTPUT: table})
    found = read_seen_images(run.dir)
    assert found.columns.tolist() == COLUMNS and found.iloc[0].tolist() == ["first", "train", "x", "ff"]

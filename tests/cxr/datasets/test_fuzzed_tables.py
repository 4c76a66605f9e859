"""Broken tables, lists, XML and JSON files through the reader of every data set: an error or a sound data set."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from pydantic import TypeAdapter

from cxr.config import UserError
from cxr.datasets import AnyData
from cxr.tables import Dataset, DataSettings
from tests import builders
from tests.cxr.datasets import release_builders as releases
from tests.fuzzing import broken, check_all, num_cases

BUILDERS: dict[str, tuple[str, Callable[[Path], Path], Mapping[str, Any]]] = {
    "chexpert": ("chexpert", builders.chexpert_folder, {}),
    "vindr of Kaggle": ("vindr", builders.kaggle_folder, {}),
    "vindr of PhysioNet": ("vindr", builders.physionet_folder, {}),
    "nih": ("nih", lambda root: builders.nih_folder(root, lists=True), {}),
    "tbx11k": ("tbx11k", builders.tbx11k_folder, {}),
    "halves of tbx11k": ("tbx11k", builders.tbx11k_folder, {"layout": "hemithorax"}),
    "kermany": ("kermany", lambda root: builders.kermany_folder(root, groups=True), {}),
    "rsna": ("rsna", releases.rsna_folder, {}),
    "siim": ("siim", releases.siim_folder, {}),
    "mimic": ("mimic", releases.mimic_folder, {}),
    "packed mimic": ("mimic", lambda root: releases.mimic_folder(root, packed=True), {}),
    "padchest": ("padchest", releases.padchest_folder, {}),
    "chexlocalize": ("chexlocalize", releases.chexlocalize_folder, {}),
    "chestxdet": ("chestxdet", releases.chestxdet_folder, {}),
    "openi": ("openi", releases.openi_folder, {"view": "all"}),
    "spr": ("spr", releases.spr_folder, {}),
    "csv_table": ("csv_table", builders.csv_folder, {}),
}
TEXT_SUFFIXES = {".csv", ".txt", ".xml", ".json", ".gz"}


def settings_of(name: str, folder: Path, on_problem: str) -> DataSettings:
    dataset, build, changes = BUILDERS[name]
    root = folder if folder.exists() else build(folder)
    values = {"dataset": dataset, "root": root, "on_problem": on_problem, **changes}
    if dataset == "csv_table":
        values |= builders.csv_settings(root)
    return TypeAdapter(AnyData).validate_python(values)


def assert_sound(data: Dataset) -> None:
    """Every image once, every label a label, every box of a listed image, with an extent, and finite."""
    assert data.images["image_id"].is_unique and len(data.images) == len(data.labels)
    labels = data.labels.to_numpy(dtype=np.float64)
    assert (np.isin(labels, (1.0, 0.0, -1.0)) | np.isnan(labels)).all()
    if data.boxes is not None:
        corners = data.boxes[["x1", "y1", "x2", "y2"]].to_numpy(dtype=np.float64)
        assert np.isfinite(corners).all() and (corners[:, 2:] > corners[:, :2]).all() and (corners >= 0).all()
        assert data.boxes["image_id"].isin(data.images["image_id"]).all()


@num_cases(1, 60)
@pytest.mark.parametrize("name", BUILDERS)
def test_a_broken_file_is_an_error_or_leaves_a_sound_data_set(tmp_path: Path, name: str, cases: int) -> None:
    settings = {way: settings_of(name, tmp_path / "data", way) for way in ("error", "exclude")}
    assert_sound(settings["error"].read())
    files = sorted(path for path in (tmp_path / "data").rglob("*") if path.suffix in TEXT_SUFFIXES)
    sound = {path: path.read_bytes() for path in files}

    def check(drawn: tuple[Path, bytes, str]) -> None:
        path, data, on_problem = drawn
        path.write_bytes(data)
        try:
            assert_sound(settings[on_problem].read())
        except UserError as error:
            assert error.problems and not any("\n" in problem for problem in error.problems)
        finally:
            path.write_bytes(sound[path])

    one = st.sampled_from(files).flatmap(
        lambda path: st.tuples(st.just(path), broken(sound[path]), st.sampled_from(("error", "exclude")))
    )
    check_all(check, one, cases=cases)

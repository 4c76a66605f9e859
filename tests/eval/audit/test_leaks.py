"""Patients and copies of images in two splits are found, and what must not be compared is not."""

from pathlib import Path

import pytest

from cxr.tables import NOT_ASKED
from eval.audit.leaks import IDENTICAL, SIMILAR, crossing_table, find_copies
from tests.eval.audit.audit_builders import data_set, write_texture

NAN = float("nan")
NONE, ONE_BIT, ALL = "0" * 64, "8" + "0" * 63, "f" * 64


def test_no_images() -> None:
    data = data_set(labels={"Edema": []})
    assert crossing_table(data, {"own": {"train": [], "test": []}}).empty
    copies = find_copies(data, {}, ["Edema"], {"own": {"train": []}})
    assert copies.empty
    assert list(copies.columns) == ["first", "second", "kind", "bits", "labels differ", "patients differ", "own"]


def test_patients_in_two_splits_with_their_images() -> None:
    data = data_set(labels={"Edema": [0] * 6}, patient_id=["p", "p", "p", "q", "", ""])
    divisions = {"own": {"train": ["a", "d", "e"], "test": ["b", "f"]}, "other": {"train": ["a", "b", "c"]}}
    # c is in no split of the first division; e and f have no known patient, so each is a patient of its own
    assert crossing_table(data, divisions).to_numpy().tolist() == [["own", "p", "train and test", 2]]


def test_identical_files_are_pairs_with_the_first(tmp_path: Path) -> None:
    data = data_set(tmp_path, labels={"Edema": [1, 0, 1, 0], "Mass": [NAN, 1, 0, 0]}, patient_id=["p", "p", "q", ""])
    for name in "abc":
        write_texture(tmp_path / f"{name}.png", 0)
    write_texture(tmp_path / "d.png", 1)
    divisions = {"own": {"train": ["a", "d"], "test": ["b"]}}
    hashes = {**dict.fromkeys("abc", NONE), "d": ALL}  # b and c are equal, but each of them is a pair with a already
    copies = find_copies(data, hashes, ["Edema", "Mass"], divisions)
    assert copies.to_numpy().tolist() == [
        ["a", "b", IDENTICAL, 0, True, False, "train and test"],
        ["a", "c", IDENTICAL, 0, False, True, ""],
    ]


def test_files_that_cannot_be_decoded_are_no_copies(tmp_path: Path) -> None:
    """Two empty files are equal, but copies of nothing."""
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"")
    assert find_copies(data_set(tmp_path, labels={"Edema": [0, 0]}), {}, ["Edema"], {}).empty


def test_pictures_that_look_the_same(tmp_path: Path) -> None:
    data = data_set(tmp_path, labels={"Edema": [1, NOT_ASKED, 0, 1]})
    for number, name in enumerate("abcd"):
        write_texture(tmp_path / f"{name}.png", number)
    copies = find_copies(data, {"a": NONE, "b": ALL, "c": ONE_BIT, "d": ""}, ["Edema"], {})
    assert copies.to_numpy().tolist() == [["a", "c", SIMILAR, 1, True, False]]


@pytest.mark.parametrize(("paths", "expected"), [(["x.png", "x.png"], 0), (["x.png", "y.png"], 1)])
def test_two_halves_of_a_file_are_no_copies(tmp_path: Path, paths: list[str], expected: int) -> None:
    for number, name in enumerate(set(paths)):
        write_texture(tmp_path / name, number)
    data = data_set(tmp_path, labels={"Edema": [0, 0]}, path=paths, region=["left", "right_mirrored"])
    assert len(find_copies(data, {"a": NONE, "b": NONE}, ["Edema"], {})) == expected

"""Splits: whole patients, stable when images are added, leaks found, files that were edited refused."""

import logging
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr.config import UserError, parse_settings
from cxr.splits import (
    SplitSettings,
    check_no_leak,
    crossing_patients,
    fingerprint,
    hash_to_unit,
    load_splits,
    official_split,
    patients_of,
    save_splits,
    split_by_patient,
)
from cxr.tables import Dataset, empty_boxes, image_table

THREE = {"train": 0.6, "val": 0.2, "test": 0.2}


def dataset(patients: list[str], *, splits: list[str] | None = None) -> Dataset:
    """One image a patient entry: i0, i1, ..."""
    ids = [f"i{number}" for number in range(len(patients))]
    images = image_table(
        image_id=ids, path=[f"{name}.png" for name in ids], patient_id=patients, split=splits or [""] * len(ids)
    )
    labels = pd.DataFrame({"Edema": [0.0] * len(ids)}, index=pd.Index(ids))
    return Dataset(name="tiny", root=Path("nowhere"), images=images, labels=labels, boxes=empty_boxes())


def test_no_images() -> None:
    assert split_by_patient(dataset([]), fractions=THREE, seed=0) == {"train": [], "val": [], "test": []}


def test_exact_positions() -> None:
    """Recorded values: they may never change, or every saved experiment's split would."""
    assert hash_to_unit("patient00001", 0) == pytest.approx(0.23989323991224265, abs=1e-12)
    assert hash_to_unit("patient00001", 1) == pytest.approx(0.6276939715471538, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(patients=st.lists(st.sampled_from(["", "p1", "p2", "p3", "p4", "p5"]), max_size=25), seed=st.integers(0, 2**40))
def test_every_image_is_in_one_split_and_patients_stay_whole(patients: list[str], seed: int) -> None:
    data = dataset(patients)
    splits = split_by_patient(data, fractions=THREE, seed=seed)
    check_no_leak(data, splits)
    assert sorted(name for part in splits.values() for name in part) == sorted(data.images["image_id"])


def test_splits_that_share_patients_are_returned_where_that_is_wanted() -> None:
    data = dataset(["p", "p", "q", ""], splits=["train", "test", "test", "train"])
    settings = SplitSettings(kind="official", names={"train": "train", "test": "test"})
    with pytest.raises(UserError, match="'p' is in train and test"):
        settings.make(data)
    splits = settings.make(data, allow_leak=True)
    assert splits == {"train": ["i0", "i3"], "test": ["i1", "i2"]}
    assert crossing_patients(data, splits) == {"p": ["train", "test"]}
    assert crossing_patients(data, {"a": ["i3", "unknown"], "b": ["i3"]}) == {"i3": ["a", "b"]}


def test_fractions_that_do_not_add_up_exactly_lose_nobody() -> None:
    """Ten tenths sum to 0.9999999999999999 as floats."""
    tenths = {f"part{number}": 0.1 for number in range(10)}
    splits = split_by_patient(dataset([f"p{number}" for number in range(500)]), fractions=tenths, seed=3)
    assert sum(map(len, splits.values())) == 500


def test_shares_hold_on_average() -> None:
    splits = split_by_patient(dataset([f"p{number}" for number in range(4000)]), fractions=THREE, seed=0)
    assert len(splits["train"]) == pytest.approx(2400, abs=100)
    assert len(splits["test"]) == pytest.approx(800, abs=80)


def test_added_images_move_nobody() -> None:
    few = split_by_patient(dataset([f"p{number}" for number in range(50)]), fractions=THREE, seed=5)
    many = split_by_patient(dataset([f"p{number}" for number in range(90)]), fractions=THREE, seed=5)
    for name, ids in few.items():
        assert set(ids) <= set(many[name])


def test_other_seed_other_split_and_table_order() -> None:
    data = dataset([f"p{number}" for number in range(50)])
    one = split_by_patient(data, fractions=THREE, seed=0)
    assert one != split_by_patient(data, fractions=THREE, seed=1)
    assert one["train"] == [name for name in data.images["image_id"] if name in set(one["train"])]


def test_fractions_below_one_leave_images_out() -> None:
    splits = split_by_patient(dataset([f"p{number}" for number in range(1000)]), fractions={"test": 0.1}, seed=0)
    assert 60 < len(splits["test"]) < 140


def test_unknown_patients_are_their_images() -> None:
    assert patients_of(dataset(["p1", "", "p1"])).tolist() == ["p1", "i1", "p1"]


def test_official_split() -> None:
    data = dataset(["p1", "p1", "p2"], splits=["train", "train", "valid"])
    assert official_split(data, {"train": "train", "val": "valid"}) == {"train": ["i0", "i1"], "val": ["i2"]}
    with pytest.raises(UserError, match=r"no split 'test'; it has train \(2\), valid \(1\)"):
        official_split(data, {"test": "test"})


def test_leaking_patient_is_named() -> None:
    data = dataset(["p1", "p2", "p1"])
    with pytest.raises(UserError) as caught:
        check_no_leak(data, {"train": ["i0", "i1"], "val": ["i2"]})
    assert caught.value.problems == [
        "split: patient 'p1' is in train and val",
        "split: 1 patients of tiny cross splits; use `kind: patients`",
    ]


def test_a_split_that_shares_patients_can_be_kept_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    data = dataset(["p1", "p2", "p1"], splits=["train", "train", "valid"])
    names = {"train": "train", "val": "valid"}
    with pytest.raises(UserError, match="'p1' is in train and val"):
        SplitSettings(kind="official", names=names).make(data)
    with caplog.at_level(logging.WARNING, logger="raybox"):
        splits = SplitSettings(kind="official", names=names, shared_patients="keep").make(data)
    assert splits == {"train": ["i0", "i1"], "val": ["i2"]}
    assert crossing_patients(data, splits) == {"p1": ["train", "val"]}
    assert ["1 patients of tiny" in record.getMessage() for record in caplog.records] == [True]


def test_images_of_unknown_patients_do_not_leak() -> None:
    check_no_leak(dataset(["", ""]), {"train": ["i0"], "val": ["i1"]})


def test_image_in_two_splits_leaks() -> None:
    with pytest.raises(UserError, match="'i0' is in train and val"):
        check_no_leak(dataset([""]), {"train": ["i0"], "val": ["i0"]})


def test_image_that_the_data_set_lacks() -> None:
    with pytest.raises(UserError, match="image 'i9' is not in tiny"):
        check_no_leak(dataset(["p1"]), {"train": ["i9"]})


def test_fingerprint_depends_on_the_set_alone() -> None:
    assert fingerprint(["b", "a"]) == fingerprint(["a", "b"])
    assert fingerprint(["a"]) != fingerprint(["a", "b"])
    assert len(fingerprint([])) == 16


def test_saved_splits_come_back(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    save_splits(path, {"train": ["i1", "i0"], "val": []})
    assert load_splits(path) == {"train": ["i1", "i0"], "val": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no file .*splits\.json"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("{}", "has no split"),
        (f'{{"val": {{"image_ids": ["i0", "i0"], "fingerprint": "{fingerprint(["i0", "i0"])}"}}}}', "an image twice"),
        ("[]", "is not a file of splits"),
        ('{"train": {"image_ids": ["i0"]}}', "is not a file of splits"),
        ('{"train": {"image_ids": ["i0"], "fingerprint": "0"}}', "was edited: train does not match"),
    ],
)
def test_broken_file_of_splits(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "splits.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_splits(path)


def test_a_device_in_place_of_a_file_of_splits() -> None:
    """It has no end, and reading it took all memory."""
    with pytest.raises(UserError, match="is a folder, a pipe or a device"):
        SplitSettings(kind="file", file=Path("/dev/zero")).make(dataset(["p1"]))


def test_a_split_of_another_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The folder or the file; an image that it does not list is in no split, and the log names it."""
    save_splits(tmp_path / "splits.json", {"train": ["i1", "i0"], "val": ["i3"]})
    data = dataset(["p1", "p1", "p2", "p3"])
    for path in (tmp_path, tmp_path / "splits.json"):
        assert SplitSettings(kind="file", file=path).make(data) == {"train": ["i1", "i0"], "val": ["i3"]}
    named = SplitSettings(kind="file", file=tmp_path, names={"tune": "val"}).make(data)
    assert named == {"tune": ["i3"]}
    with pytest.raises(UserError, match="has no split 'valid'; it has train, val"):
        SplitSettings(kind="file", file=tmp_path, names={"tune": "valid"}).make(data)
    assert "1 images of tiny" in caplog.text
    assert "i2" in caplog.text


def test_a_split_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """The data set lacks an image, or has its patients otherwise, or the file was edited."""
    path = tmp_path / "splits.json"
    save_splits(path, {"train": ["i0"], "val": ["i1", "i9"]})
    settings = SplitSettings(kind="file", file=path)
    with pytest.raises(UserError, match="lists 1 images that tiny lacks, for instance 'i9'"):
        settings.make(dataset(["p1", "p2"]))
    save_splits(path, {"train": ["i0"], "val": ["i1"]})
    with pytest.raises(UserError, match="patient 'p1' is in train and val"):
        settings.make(dataset(["p1", "p1"]))
    path.write_text(path.read_text(encoding="utf-8").replace("i0", "i1"), encoding="utf-8")
    with pytest.raises(UserError, match="was edited: train"):
        settings.make(dataset(["p1", "p2"]))
    with pytest.raises(UserError, match=r"no file .*splits\.json"):
        SplitSettings(kind="file", file=tmp_path.parent).make(dataset(["p1"]))


def test_settings_make_checked_splits() -> None:
    data = dataset(["p1", "p1", "p2"], splits=["train", "valid", "valid"])
    by_patient = SplitSettings(kind="patients", fractions=THREE, seed=0).make(data)
    assert list(by_patient) == ["train", "val", "test"]
    with pytest.raises(UserError, match="p1"):
        SplitSettings(kind="official", names={"train": "train", "val": "valid"}).make(data)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "patients"}, "kind 'patients' needs `fractions`"),
        ({"kind": "official", "fractions": {"a": 1}}, "kind 'official' needs `names`"),
        ({"kind": "official", "names": {"a": "a"}, "fractions": {"a": 1}}, "does not use `fractions`"),
        ({"kind": "patients", "fractions": {"a": 0.7, "b": 0.4}}, "sum to 1.1, expected at most 1"),
        ({"kind": "patients", "fractions": {"a": 0}}, r"must be in \(0, 1\]"),
        ({"kind": "patient", "fractions": {"a": 1}}, "kind: got 'patient'"),
        ({"kind": "patients", "patients_per_finding": {"train": 2}}, "the others are train"),
        ({"kind": "patients", "patients_per_finding": {"val": 2}, "findings": []}, "findings: got "),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_settings(SplitSettings, values, source="config")

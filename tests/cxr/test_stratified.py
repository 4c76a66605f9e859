"""Splits of patients by their findings: each split has its share of each, rare ones too; n patients a finding."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr.config import UserError, parse_settings
from cxr.splits import Splits, SplitSettings, check_no_leak
from cxr.stratified import NOWHERE, findings_of_patients, stratified_parts
from cxr.tables import NOT_ASKED, Dataset, empty_boxes, image_table

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
FINDINGS = ("Edema", "Fracture", "Pneumonia")


def dataset(patients: list[str], labels: list[tuple[float, ...]], *, order: list[int] | None = None) -> Dataset:
    """One image a row: i0, i1, ...; `order` of the rows."""
    rows = range(len(patients)) if order is None else order
    ids = [f"i{row}" for row in rows]
    images = image_table(image_id=ids, path=[f"{name}.png" for name in ids], patient_id=[patients[row] for row in rows])
    table = pd.DataFrame([labels[row] for row in rows], columns=FINDINGS, index=pd.Index(ids), dtype=float)
    return Dataset(name="tiny", root=Path("nowhere"), images=images, labels=table, boxes=empty_boxes())


def many(num: int = 600, *, seed: int = 0) -> Dataset:
    """Two images a patient; every 2nd patient has Edema, 30 Fracture, three Pneumonia, in either image."""
    random = np.random.default_rng(seed)
    patients = [f"p{number // 2}" for number in range(num)]
    has = np.zeros((num // 2, 3))
    has[::2, 0] = 1
    has[random.choice(num // 2, 30, replace=False), 1] = 1
    has[random.choice(num // 2, 3, replace=False), 2] = 1
    rows = np.repeat(has, 2, axis=0)
    rows[random.integers(2, size=num // 2) + np.arange(0, num, 2)] = 0  # one of the images says nothing
    return dataset(patients, [tuple(row) for row in rows])


def made(data: Dataset, **values: object) -> Splits:
    given_values = {"kind": "patients", "fractions": SHARES, "stratify": True} | values
    return parse_settings(SplitSettings, given_values, source="test").make(data)


def patients_with(data: Dataset, splits: Splits, finding: str) -> dict[str, int]:
    """Number of patients with the finding in each split."""
    positive = data.labels[finding].to_numpy() == 1
    numbers = {}
    for name, ids in splits.items():
        inside = data.images["image_id"].isin(ids).to_numpy()
        numbers[name] = data.images.loc[inside & positive, "patient_id"].nunique()
    return numbers


def test_no_images() -> None:
    assert made(dataset([], [])) == {"train": [], "val": [], "test": []}


def test_a_patient_has_what_one_of_its_images_shows() -> None:
    labels = pd.DataFrame([(1, 0, NOT_ASKED), (np.nan, 1, NOT_ASKED), (0, -1, NOT_ASKED)], columns=list("abc"))
    known = findings_of_patients(labels, pd.Series(["p", "p", "q"]), {"p": 0.9, "q": 0.1})
    assert (known.patients, known.findings) == (("q", "p"), ("a", "b"))
    assert known.has.tolist() == [[False, False], [True, True]]
    assert known.is_certain.tolist() == [False, True]


def test_each_split_has_its_share_of_each_finding() -> None:
    """150 patients with Edema, 30 with Fracture, 3 with Pneumonia, of whom each split gets one."""
    data = many()
    splits = made(data)
    check_no_leak(data, splits)
    assert {name: len(ids) for name, ids in splits.items()} == {"train": 420, "val": 60, "test": 120}
    assert patients_with(data, splits, "Edema") == {"train": 105, "val": 15, "test": 30}
    assert patients_with(data, splits, "Fracture") == {"train": 21, "val": 3, "test": 6}
    assert patients_with(data, splits, "Pneumonia") == {"train": 1, "val": 1, "test": 1}


def test_two_patients_cannot_be_in_three_splits_and_nobody_is_lost() -> None:
    data = dataset([f"p{number}" for number in range(40)], [(float(row < 2), 0, 0) for row in range(40)])
    splits = made(data)
    assert sum(patients_with(data, splits, "Edema").values()) == 2
    assert sorted(name for ids in splits.values() for name in ids) == sorted(data.images["image_id"])


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(24)), seed=st.integers(-(2**40), 2**40))
def test_the_order_of_the_rows_changes_nothing(order: list[int], seed: int) -> None:
    patients = [f"p{row // 2}" for row in range(24)]
    labels = [(float(row % 3 == 0), float(row % 7 == 0), -1.0 if row == 5 else 0.0) for row in range(24)]
    plain, shuffled = (made(dataset(patients, labels, order=given), seed=seed) for given in (None, order))
    assert {name: set(ids) for name, ids in plain.items()} == {name: set(ids) for name, ids in shuffled.items()}


def test_another_seed_is_another_split() -> None:
    data = many()
    assert made(data, seed=1) == made(data, seed=1) != made(data, seed=2)


def test_shares_below_one_leave_patients_out() -> None:
    data = many()
    splits = made(data, fractions={"train": 0.5, "test": 0.1})
    assert {name: len(ids) for name, ids in splits.items()} == {"train": 300, "test": 60}
    assert patients_with(data, splits, "Fracture") == {"train": 15, "test": 3}


def test_only_the_named_findings_count() -> None:
    data = many()
    assert made(data, findings=["Fracture"]) != made(data, findings=["Edema"])
    with pytest.raises(UserError, match="Edemma"):
        made(data, findings=["Edemma"])


def test_the_part_of_train_that_becomes_val_is_stratified_too() -> None:
    data = many()
    images = data.images.assign(split="train")
    values = {"kind": "official", "names": {"train": "train"}, "val_fraction": 0.2, "stratify": True, "fractions": {}}
    own = Dataset(name="tiny", root=Path(), images=images, labels=data.labels, boxes=data.boxes)
    splits = made(own, **values)
    assert patients_with(own, splits, "Fracture") == {"train": 24, "val": 6}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(*[st.booleans()] * 4), min_size=1, max_size=30), st.integers(0, 9))
def test_a_finding_of_enough_patients_is_in_every_part_unless_no_exchange_is_possible(
    rows: list[tuple[bool, ...]], seed: int
) -> None:
    """Each of the 30 patients without findings can be exchanged, so a finding alone in a patient always can."""
    alone = [tuple(place == first for place in range(4)) for row in rows for first in [row.index(max(row))]]
    has = np.array([*alone, *[(False,) * 4] * 30])
    parts = stratified_parts(has, [0.8, 0.1, 0.1], seed=seed)
    for finding in range(4):
        num_parts = len(set(parts[has[:, finding]].tolist()))
        assert num_parts == min(3, has[:, finding].sum()) or has[:, finding].sum() < 3
    assert NOWHERE not in parts


def test_n_patients_of_each_finding_are_held_out() -> None:
    data = many()
    wanted = {"patients_per_finding": {"val": 5, "test": 10}, "findings": FINDINGS[:2]}
    splits = made(data, fractions={}, stratify=False, **wanted)
    check_no_leak(data, splits)
    for finding in FINDINGS[:2]:
        numbers = patients_with(data, splits, finding)
        assert (numbers["val"], numbers["test"]) >= (5, 10)
    assert patients_with(data, splits, "Fracture")["test"] == 10
    assert sorted(name for ids in splits.values() for name in ids) == sorted(data.images["image_id"])


def test_the_others_are_split_by_the_shares() -> None:
    data = many(4000)
    values = {"stratify": False, "patients_per_finding": {"test": 10}, "findings": ["Fracture"]}
    splits = made(data, fractions={"train": 0.75, "val": 0.25}, **values)
    assert len(splits["test"]) == 20
    assert len(splits["train"]) == pytest.approx(0.75 * 3980, abs=60)
    assert set(made(data, fractions={"train": 0.75}, **values)["train"]) == set(splits["train"])


def test_findings_of_too_few_patients_are_named() -> None:
    with pytest.raises(UserError) as caught:
        made(many(), fractions={}, stratify=False, patients_per_finding={"val": 10, "test": 20})
    assert [problem.split(": ")[1] for problem in caught.value.problems] == ["Fracture", "Pneumonia"]
    assert "30 patients" in caught.value.problems[0]
    assert "10 in val + 20 in test" in caught.value.problems[0]


def test_patients_with_uncertain_labels_are_not_held_out() -> None:
    """q has Edema and an uncertain Fracture, r and s have Fracture, and one of these is left to train on."""
    data = dataset(list("pqrs"), [(1, 0, 0), (1, -1, 0), (0, 1, 0), (0, 1, 0)])
    values = {"stratify": False, "fractions": {}, "findings": ["Edema", "Fracture"]}
    for seed in range(5):
        test = set(made(data, patients_per_finding={"test": 1}, seed=seed, **values)["test"])
        assert test in ({"i0", "i2"}, {"i0", "i3"})
    with pytest.raises(UserError, match="Edema: 1 patients without") as caught:
        made(data, patients_per_finding={"test": 2}, **values)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stratify": True, "patients_per_finding": {"test": 3}}, "`stratify` needs `fractions` or `val_fraction`"),
        ({"fractions": SHARES, "findings": ["Edema"]}, "`findings` needs `stratify`"),
        ({"patients_per_finding": {"val": 0}}, "must be at least 1, got {'val': 0}"),
        ({"fractions": SHARES, "patients_per_finding": {"val": 3}}, "val is in `patients_per_finding` and"),
        ({"kind": "file"}, "kind 'file' needs `file`"),
        ({"kind": "file", "file": "x", "fractions": SHARES}, "kind 'file' does not use `fractions`"),
        ({"kind": "official", "names": {"a": "b"}, "patients_per_finding": {"c": 1}}, "does not use `patients_per"),
        ({"kind": "official", "names": {"a": "b"}, "stratify": True}, "`stratify` needs `fractions` or"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_settings(SplitSettings, {"kind": "patients"} | values, source="config")

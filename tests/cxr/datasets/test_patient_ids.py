"""Ids of patients that programs have changed."""

from pathlib import Path

import pandas as pd
import pytest

from cxr.config import UserError
from cxr.datasets.patient_ids import check_patient_ids


def check(*ids: str) -> None:
    check_patient_ids(pd.Series(ids, dtype=str), path=Path("t.csv"), column="pid")


@pytest.mark.parametrize(
    "ids",
    [
        [],
        ["", "", "p1", "p1"],
        ["12", "13", "12", "130"],
        ["007", "008", "", "007"],
        ["12.0", "12.1", "12", "7.0"],
        ["12E3", "1e5", "0", "00a"],
        ["nanette", "1.2.840.10008.0", "12.00x"],
    ],
)
def test_ids_of_hospitals_are_sound(ids: list[str]) -> None:
    check(*ids)


@pytest.mark.parametrize(
    ("ids", "row", "words"),
    [
        (["12.0", "", "13.0"], 2, ["'12.0'", "as text"]),
        (["12", "x", "12.0"], 4, ["'12.0'", "as text"]),
        (["7", "x", "007"], 4, ["'007'", "'7' in row 2"]),
        (["", "1.23457E+11"], 3, ["'1.23457E+11'"]),
        (["1e+16", "2"], 2, ["'1e+16'"]),
        (["1", "NaN", "NaN"], 3, ["'NaN'", "blank"]),
        (["N/A"], 2, ["'N/A'", "blank"]),
    ],
)
def test_a_changed_id_is_named_with_its_row(ids: list[str], row: int, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        check(*ids)
    (problem,) = caught.value.problems
    assert all(word in problem for word in ["t.csv", "'pid'", f"row {row}:", *words])

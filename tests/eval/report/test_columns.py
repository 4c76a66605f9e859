"""eval.report.columns: columns of numbers, and how many columns fit side by side."""

import pytest

from eval.report.columns import column_groups, is_numeric_column
from eval.report.format import Cell

COLUMNS = [
    ([], False),
    (["", ""], False),
    ([None, None], True),
    (["a", 1], False),
    ([1, 2.5, None], True),
    (["0.41 [0.35, 0.47]", "–"], True),
    (["[0.35, 0.47]", ""], True),
    (["-0.1", "+3", "−2"], True),
    (["[a]"], False),
]


@pytest.mark.parametrize(("cells", "expected"), COLUMNS)
def test_is_numeric_column(cells: list[Cell], expected: bool) -> None:
    assert is_numeric_column(cells) is expected


def test_no_columns_and_no_rows() -> None:
    assert column_groups([], []) == [[]]
    assert column_groups(["a", "b"], []) == [[0, 1]]


def test_groups_repeat_the_first_column() -> None:
    names = ["name", "x", "y", "z"]
    assert column_groups(names, [["row", "0.1", "0.2", "0.3"]]) == [[0, 1, 2, 3]]
    assert column_groups(names, [["row", "0.1", "0.2", "0.3"]], page_px=110) == [[0, 1, 2], [0, 3]]
    assert column_groups(names, [["row", "0.1", "0.2", "0.3"]], page_px=1) == [[0, 1], [0, 2], [0, 3]]


def test_texts_break_and_numbers_do_not() -> None:
    assert column_groups(["name", "x"], [["row", "word " * 40]], page_px=400) == [[0, 1]]
    assert column_groups(["name", "x", "y"], [["row", "1" * 40, "2"]], page_px=300) == [[0, 1], [0, 2]]

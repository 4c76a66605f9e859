"""eval.report.format: numbers as text."""

import pytest

from eval.report.format import Cell, format_cell, with_interval

NAN = float("nan")

CELLS = [(None, "–"), (NAN, "–"), (3, "3"), (0.12345, "0.123"), (1.0, "1.000"), (123.45, "123.5"), ("x", "x")]


@pytest.mark.parametrize(("cell", "expected"), CELLS)
def test_format_cell(cell: Cell, expected: str) -> None:
    assert format_cell(cell) == expected


INTERVALS = [
    ((None, None, None), "–"),
    ((0.5, None, None), "0.500"),
    ((None, 0.1, 0.2), "[0.100, 0.200]"),
    ((0.15, 0.1, 0.2), "0.150 [0.100, 0.200]"),
    ((0.15, NAN, NAN), "0.150"),
]


@pytest.mark.parametrize(("numbers", "expected"), INTERVALS)
def test_with_interval(numbers: tuple[float | None, ...], expected: str) -> None:
    assert with_interval(*numbers) == expected

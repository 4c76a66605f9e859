"""eval.report.format: numbers as text."""

import pytest

from eval.report.format import (
    Cell,
    figure_text,
    format_cell,
    gap_text,
    in_format,
    listed,
    short,
    short_interval,
    with_interval,
)
from eval.stats.bootstrap import Estimate

NAN = float("nan")

CELLS = [
    (None, "–"),
    (NAN, "–"),
    (3, "3"),
    (0.12345, "0.123"),
    (-0.0001, "0.000"),
    (1.0, "1.000"),
    (123.45, "123.5"),
    ("x", "x"),
]


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


def test_figures_by_name() -> None:
    assert figure_text({}, "ap40/x") == "–"
    assert figure_text({"a": 0.15, "a/low": 0.1, "a/high": 0.2}, "a") == "0.150 [0.100, 0.200]"


def test_differences_have_a_sign() -> None:
    assert gap_text(Estimate(0.0421, 0.01, 0.08)) == "+0.042 [0.010, 0.080]"
    assert gap_text(Estimate(-0.2, NAN, NAN)) == "-0.200"
    assert gap_text(Estimate(-0.0001, NAN, NAN)) == "+0.000"


@pytest.mark.parametrize(("value", "expected"), [(None, None), (NAN, None), (12.345, "12.3")])
def test_in_format(value: float | None, expected: str | None) -> None:
    assert in_format(value, ".1f") == expected


SHORT = [
    (0.44, ".44"),
    (-0.021, "-.02"),
    (-0.001, ".00"),
    (1.0, "1.00"),
    (0.0, ".00"),
    (10.04, "10.04"),
    (NAN, "unknown"),
]


@pytest.mark.parametrize(("value", "expected"), SHORT)
def test_short_numbers(value: float, expected: str) -> None:
    assert short(value) == expected


def test_short_intervals() -> None:
    assert short_interval(0.2, 0.15, 0.25) == ".20 [.15, .25]"
    assert short_interval(0.2, None, None) == short_interval(0.2, NAN, NAN) == ".20"


def test_lists() -> None:
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]

"""Broken copies of sound files, drawn by hypothesis."""

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Value = TypeVar("Value")

TOKENS = (b"\0", b"\xff\xfe", b'"', b",", b"\n", b"\r", b"nan", b"inf", b"-1", b"1e308", b"[", b"{", b"<", b": ")
"""Pieces that have a meaning in one of the formats."""


def num_cases(small: int, large: int) -> pytest.MarkDecorator:
    """Run a test with few cases in `make test` and with many in `make test-slow`."""
    return pytest.mark.parametrize("cases", [small, pytest.param(large, marks=pytest.mark.slow)])


def check_all(check: Callable[[Value], None], drawn: st.SearchStrategy[Value], *, cases: int) -> None:
    """Call `check` with that many values, the same ones at each call."""
    options = {"max_examples": cases, "deadline": None, "database": None, "derandomize": True}
    settings(**options, suppress_health_check=list(HealthCheck))(given(drawn)(check))()


@st.composite
def broken(draw: st.DrawFn, sound: bytes) -> bytes:
    """A sound content after one to three edits: cut, overwritten, left out, given twice, or with other bytes put in."""
    data = sound
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 60)))
        piece = draw(st.sampled_from(TOKENS) | st.binary(max_size=12))
        way = draw(st.sampled_from(("cut", "overwrite", "leave out", "twice", "put in")))
        data = {
            "cut": data[:start],
            "overwrite": data[:start] + piece + data[start + len(piece) :],
            "leave out": data[:start] + data[stop:],
            "twice": data[:stop] + data[start:],
            "put in": data[:start] + piece + data[start:],
        }[way]
    return data

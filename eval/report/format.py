"""Numbers and lists as text and as JSON: the one place that decides how a figure looks."""

import math
from collections.abc import Sequence
from typing import Any

from eval.stats.bootstrap import Difference

MISSING = "–"

Cell = str | int | float | None


def format_cell(cell: Cell) -> str:
    """Text of a table's cell: integers as they are, fractions with three decimals, from 100 on with one."""
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return MISSING
    if isinstance(cell, float):
        return f"{cell:.1f}" if abs(cell) >= 100 else f"{cell:.3f}"
    return str(cell)


def with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """ "0.412 [0.350, 0.470]", the interval alone when no value is given, a dash when it is unknown."""
    ends = (format_cell(low), format_cell(high))
    interval = "" if MISSING in ends else f"[{ends[0]}, {ends[1]}]"
    number = "" if value is None else format_cell(value)
    return " ".join(part for part in (number, interval) if part) or MISSING


def gap_text(gap: Difference) -> str:
    """ "+0.042 [0.010, 0.080]"."""
    return f"{gap.value:+.3f} {with_interval(None, gap.low, gap.high)}"


def listed(words: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def json_value(value: Any) -> Any:
    """What JSON can hold: not-a-number becomes None, NumPy's numbers become Python's; lists and dicts inside too."""
    if isinstance(value, dict):
        return {key: json_value(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""Numbers and lists as text and as JSON: the one place that decides how a figure looks."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from eval.stats.bootstrap import Estimate
from eval.stats.measures import with_ends

MISSING = "–"

Cell = str | int | float | None


def format_cell(cell: Cell) -> str:
    """Text of a table's cell: integers as they are, fractions with three decimals, from 100 on with one."""
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return MISSING
    if isinstance(cell, float):
        return f"{cell:.1f}" if abs(cell) >= 100 else f"{cell:z.3f}"  # z: no "-0.000"
    return str(cell)


def in_format(value: float | None, spec: str) -> str | None:
    """The number in Python's format `spec`, such as ".1f"; None for an unknown one."""
    return None if value is None or not math.isfinite(value) else format(value, spec)


def with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """ "0.412 [0.350, 0.470]", the interval alone when no value is given, a dash when it is unknown."""
    ends = (format_cell(low), format_cell(high))
    interval = "" if MISSING in ends else f"[{ends[0]}, {ends[1]}]"
    number = "" if value is None else format_cell(value)
    return " ".join(part for part in (number, interval) if part) or MISSING


def figure_text(figures: Mapping[str, float | None], key: str) -> str:
    """ "0.412 [0.350, 0.470]" from ``key``, ``key/low`` and ``key/high``; a dash where there is no such figure."""
    return with_interval(*with_ends(figures, key))


def estimate_text(estimate: Estimate | None) -> str | None:
    """ "0.412 [0.350, 0.470]"."""
    return None if estimate is None else with_interval(estimate.value, estimate.low, estimate.high)


def gap_text(gap: Estimate) -> str:
    """ "+0.042 [0.010, 0.080]"; the value alone where the interval is not known."""
    interval = with_interval(None, gap.low, gap.high)
    return f"{gap.value:+z.3f}" + (f" {interval}" if interval != MISSING else "")


def short(value: float) -> str:
    """For sentences: two decimals without a leading zero, ".44", "-.02", "1.00"; "unknown" for not-a-number."""
    return "unknown" if math.isnan(value) else re.sub(r"^(-?)0\.", r"\1.", f"{value:z.2f}")


def short_interval(value: float, low: float | None, high: float | None) -> str:
    """For sentences: ".20 [.15, .25]"; the value alone where the interval is not known."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return short(value)
    return f"{short(value)} [{short(low)}, {short(high)}]"


def capital(text: str) -> str:
    """The same text with a capital first letter."""
    return text[:1].upper() + text[1:]


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

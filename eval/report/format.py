"""Numbers and lists as text: the one place that decides how a figure looks."""

from collections.abc import Sequence

from eval.report.blocks import MISSING, format_cell
from eval.stats.bootstrap import Difference


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

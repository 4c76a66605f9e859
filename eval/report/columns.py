"""Columns of a report's table: which hold numbers, and how many fit side by side on the narrowest page, 800 pixels."""

import re
from collections.abc import Sequence

from eval.report.format import MISSING, Cell, format_cell

PAGE_PX = 740
"""Width of a table on a page that is 800 pixels wide, where the style sheet uses small type."""
_CHARACTER_PX, _PADDING_PX = 6.9, 12.5
_WRAP = 34
"""Texts with more characters than this are broken into lines."""


def is_numeric_column(cells: Sequence[Cell]) -> bool:
    """True when a column holds only numbers, texts that begin with one, intervals and dashes."""
    texts = [format_cell(cell) for cell in cells]
    known = [text for text in texts if text not in (MISSING, "")]
    return any(texts) and all(re.match(r"[\[(]?[-+−]?\d*\.?\d", text) for text in known)


def column_groups(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, page_px: float = PAGE_PX
) -> list[list[int]]:
    """Indices of the columns that are side by side; each group begins with the first column, which names the rows.

    columns: names. rows: texts. A table that fits is one group. No group is wider than page_px, as far as its text
    can be broken.
    """
    widths = [_width_px(name, [row[i] for row in rows]) for i, name in enumerate(columns)]
    groups, used = [list(range(min(1, len(columns))))], sum(widths[:1])
    for index, width in list(enumerate(widths))[1:]:
        if used + width > page_px and len(groups[-1]) > 1:
            groups.append([0])
            used = widths[0]
        groups[-1].append(index)
        used += width
    return groups


def _width_px(name: str, cells: Sequence[str]) -> float:
    """Estimated width: names break at spaces, numbers do not break, longer texts break at about `_WRAP` characters."""
    head = max(map(len, name.split()), default=0)
    body = max(map(len, cells), default=0)
    if not is_numeric_column(cells):
        body = min(body, _WRAP)
    return max(head, body) * _CHARACTER_PX + _PADDING_PX

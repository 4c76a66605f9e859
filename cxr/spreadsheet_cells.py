"""Texts in CSV tables for people: a spreadsheet must not run them.

A spreadsheet takes a cell that begins with =, +, -, @, a tab or a carriage return for a formula, and a formula can
fetch addresses and start programs. File names, patient ids and report names come from others. A text with such a
beginning is written behind an apostrophe, with which spreadsheets mark a text; `original` takes it away again.

Source: OWASP, CSV Injection.
"""

import re
from typing import TypeVar

Cell = TypeVar("Cell")

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""Also behind apostrophes, so that `original` finds back to each text."""

WRITTEN = re.compile(r"(?:^|[,;\t\"])'+[=+\-@\t\r]", re.MULTILINE)
"""Found in the text of each CSV table with a cell that `inert` has changed."""


def inert(cell: Cell) -> Cell | str:
    """A cell as it is written: texts that a spreadsheet would run get an apostrophe, numbers in texts do not."""
    if not isinstance(cell, str) or not _FORMULA.match(cell) or _is_number(cell):
        return cell
    return "'" + cell


def original(cell: str) -> str:
    """The text that `inert` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

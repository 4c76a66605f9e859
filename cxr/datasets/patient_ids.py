"""Numbers of patients that a spreadsheet or pandas has changed: one patient would count as two, in train and in test.

pandas writes 12 as 12.0 where a cell of the column is blank, and a blank cell as nan. Excel drops the zeros of 007 and
writes long numbers as 1.23457E+11.
"""

import re
from pathlib import Path

import pandas as pd

from cxr.config import UserError
from cxr.datasets.text_cells import NOTHING

_WHOLE = re.compile(r"0*(\d+)(?:\.0)?")
_FLOAT = re.compile(r"\d+\.0")
_DECIMALS = re.compile(r"\d+\.\d*[1-9]\d*")
_EXPONENT = re.compile(r"\d(\.\d+)?[eE]\+\d+")


def check_patient_ids(ids: "pd.Series[str]", *, path: Path, column: str) -> None:
    """UserError that names the first of the ids that are no longer those of the hospital.

    Ids such as 12.0 are sound next to 12.1.

    Args:
        ids: (N,) without spaces around.
        path, column: of the table, for the message.
    """
    first_row: dict[str, int] = {}
    for row, name in enumerate(ids.tolist(), start=2):  # row 1 is the header
        first_row.setdefault(name, row)
    has_decimals = any(map(_DECIMALS.fullmatch, first_row))
    spellings: dict[str, str] = {}
    for name, row in first_row.items():
        whole = _WHOLE.fullmatch(name)
        other = spellings.setdefault(whole[1], name) if whole and not has_decimals else name
        where = f"data: {path}: column {column!r}, row {row}: patient {name!r}"
        if name.lower() in NOTHING:
            raise UserError(f"{where} would be one patient of many images; leave the cell blank if it is not known")
        if _EXPONENT.fullmatch(name) or (_FLOAT.fullmatch(name) and not has_decimals):
            raise UserError(f"{where} is a number that a program has changed; export the column as text")
        if other != name:
            raise UserError(
                f"{where} is another patient than {other!r} in row {first_row[other]}; write the same number in the "
                "same way, and export the column as text"
            )

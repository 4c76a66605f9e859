"""CSV files as text tables, and their cells as numbers and label values. Errors are reported, not guessed away."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.config import UserError
from cxr.labels import map_names, nearest
from cxr.tables import Problems

UNKNOWN_NAME = "unknown finding"
BAD_LABEL = "label value outside {1, 0, -1, blank}"

SEXES = {"f": "F", "female": "F", "m": "M", "male": "M", "": ""}

Mask = npt.NDArray[np.bool_]


def read_text_table(path: Path, *, required: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV file with every cell as text, blank cells as "" (so "N/A" or "nan" stay visible).

    Raises:
        UserError: no such file, not a CSV, or a required column is missing.
    """
    if not path.is_file():
        raise UserError(f"data: no table {path}; check `root` and that the release is unpacked as it came")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, na_filter=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"data: {path} is not a CSV table: {reason}; save it with commas between cells, in UTF-8"
        ) from None
    _refuse_other_separators(table, path)
    require_columns(table, required, source=str(path))
    return table


def _refuse_other_separators(table: pd.DataFrame, path: Path) -> None:
    """Refuse (UserError) a header separated by semicolons or tabs, as some spreadsheets write it."""
    header = ",".join(map(str, table.columns))
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if header.count(separator) > header.count(","):
            raise UserError(
                f"data: {path} has {name} between its cells, expected commas; save it with commas, in UTF-8"
            )


def require_columns(table: pd.DataFrame, required: Sequence[str], *, source: str) -> None:
    """Refuse (UserError) a table without the required columns; names the missing and the existing ones."""
    missing = [name for name in required if name not in table.columns]
    if missing:
        raise UserError(
            f"data: {source} has no column {', '.join(map(repr, missing))}; "
            f"it has {', '.join(map(str, table.columns))}; is it another table, or another release?"
        )


def numbers(column: pd.Series) -> npt.NDArray[np.float64]:
    """(N,) float64 of a text column; NaN where a cell is blank or not a number."""
    values = pd.to_numeric(column, errors="coerce")
    return np.asarray(values, dtype=np.float64)


def label_values(table: pd.DataFrame, rows: pd.Series, problems: Problems) -> tuple[pd.DataFrame, Mask]:
    """Text cells of a label table as float: 1, 0, -1, NaN where blank.

    Args:
        table: N rows, one column a finding, text cells.
        rows: the N rows' names, for the messages.

    Returns:
        the values, and an (N,) mask of rows with a cell that is none of these (a problem each).
    """
    bad_rows = np.zeros(len(table), dtype=bool)
    values: dict[str, npt.NDArray[np.float64]] = {}
    for name in map(str, table.columns):
        text = table[name]
        value = numbers(text)
        bad = ~np.isin(value, (1, 0, -1)) & (text.str.strip() != "").to_numpy()
        whats = [f"{row}, column {name!r}, value {cell!r}" for row, cell in zip(rows[bad], text[bad], strict=True)]
        problems.add_all(whats, BAD_LABEL)
        bad_rows |= bad
        values[name] = value
    return pd.DataFrame(values, index=table.index), bad_rows


def merge_columns(values: pd.DataFrame, names: dict[str, str], order: Sequence[str]) -> pd.DataFrame:
    """Rename a source's label columns to findings; columns with one finding merge: 1, else -1, else 0, else NaN.

    `order` gives the order of the findings (those that are there).
    """
    merged: dict[str, npt.NDArray[np.float64]] = {}
    for source_name in map(str, values.columns):
        column = values[source_name].to_numpy(dtype=np.float64)
        finding = names[source_name]
        merged[finding] = _stronger(merged[finding], column) if finding in merged else column
    present = [finding for finding in order if finding in merged]
    return pd.DataFrame({finding: merged[finding] for finding in present}, index=values.index)


def _stronger(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    result = np.full(a.shape, np.nan)
    for value in (0.0, -1.0, 1.0):
        result[(a == value) | (b == value)] = value
    return result


def known_names(names: Iterable[str], mapping: Mapping[str, str], problems: Problems) -> dict[str, str]:
    """Canonical finding of each name that `mapping` knows.

    Every other name is a problem, reported with the nearest known name and its count.
    """
    rows = Counter(names)
    unknown = [name for name in rows if name not in mapping]
    problems.add_all([f"{name!r}{nearest(name, mapping)}, {rows[name]} times" for name in unknown], UNKNOWN_NAME)
    return map_names([name for name in rows if name in mapping], mapping, source=problems.source)


def sexes(column: pd.Series, problems: Problems) -> pd.Series:
    """ "F", "M" or "" of a text column; what is neither female nor male is unknown, and counted unless blank."""
    short = column.str.strip().str.lower()
    problems.count("values of sex that are neither F nor M, set to unknown", int((~short.isin(list(SEXES))).sum()))
    return look_up(short, SEXES)


def look_up(column: "pd.Series[str]", table: Mapping[str, str]) -> "pd.Series[str]":
    """The value of `table` for each cell, "" for a cell that is not in it."""
    return pd.Series([table.get(cell, "") for cell in column], index=column.index, dtype=str)


def ages(column: pd.Series, problems: Problems, *, low: float = 0, high: float = 120) -> pd.Series:
    """Years of a text column; outside [low, high] or no number is unknown (NaN), and counted unless blank."""
    years = numbers(column.str.strip().str.removesuffix("Y"))
    unknown = ~((years >= low) & (years <= high))
    given = unknown & (column.str.strip() != "").to_numpy()
    problems.count(f"ages that are no number in [{low:g}, {high:g}], set to unknown", int(given.sum()))
    return pd.Series(np.where(unknown, np.nan, years), index=column.index)

"""The text files of a data set: CSV tables and lists of names. The only reader of tables that come from outside."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

import pandas as pd

from cxr.config import UserError
from cxr.input_files import read_text
from cxr.labels import nearest
from cxr.spreadsheet_cells import WRITTEN, original

ADVICE = "check `root` and that the release is unpacked as it came"
_OTHER_TABLE = "is it another table, or another release?"
_SHOWN_LINES = 20

DELIMITERS = (",", ";", "\t")
"""As spreadsheets write them; the first wins where the header has none or as many of another."""

_EXCEL_LINE = re.compile(r'"?sep=(.)"?[;,\t]*\r?\n')
"""A first line by which Excel knows what stands between the cells; it does not show this line."""

Row = tuple[int, list[str]]
"""Line number, and cells."""


def read_text_table(
    path: Path, *, required: Sequence[str] = (), advice: str = ADVICE, encoding: str = "utf-8", encoding_key: str = ""
) -> pd.DataFrame:
    """A CSV file, or one packed as .gz, with every cell as text; a blank cell is "", "N/A" or "nan" stay as they are.

    Cells that were written by `cxr.spreadsheet_cells.inert` get their own text again.

    Commas, semicolons or tabs stand between cells: whichever is most frequent in the header, or what Excel's first line
    ``sep=;`` names. That line, empty lines and rows of blank cells are skipped.
    Columns without a name are called "Unnamed: 0", by their position.

    Args:
        required: names of columns.
        advice: the end of the message where the file cannot be read.
        encoding: as Python calls it.
        encoding_key: how users name another encoding, such as "encoding: ". "": they cannot.

    Raises:
        UserError: no such file, not a CSV in this encoding, a row with more or fewer cells than the header, two columns
            of one name, or a required column is missing.
    """
    repair = f"in Excel: Save as, CSV UTF-8{f', or give {encoding_key}cp1252' if encoding_key else ''}"
    text = read_text(path, what="data", advice=advice, encoding=encoding, repair=repair)
    if "\0" in text:
        raise UserError(f"data: {path} is not a CSV table: it holds bytes of value 0; save it in UTF-8, with commas")
    excel_line = _EXCEL_LINE.match(text)
    text = text[excel_line.end() :] if excel_line else text
    delimiter = excel_line[1] if excel_line else _delimiter(text)
    rows = _rows(text, path, delimiter)
    _, header = next(rows, (1, []))
    _check_header(header, path)
    names = [name if name.strip() else f"Unnamed: {place}" for place, name in enumerate(header)]
    require_columns(pd.DataFrame(columns=names), required, source=str(path))
    _check_lengths(rows, header, path)
    # pandas makes the table 10 times as fast, but by itself it fills up short rows
    table = pd.read_csv(
        StringIO(text),
        sep=delimiter,
        dtype=str,
        keep_default_na=False,
        na_filter=False,
        names=names,
        header=0,
        index_col=False,
    )
    table = table.map(original).rename(columns=original) if WRITTEN.search(text) else table
    return _without_blank_rows(table)


def _without_blank_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Spreadsheets write rows of delimiters alone below a table."""
    may_be_blank = table[table.iloc[:, 0].str.strip() == ""]
    if may_be_blank.empty:
        return table
    blank = may_be_blank.apply(lambda column: column.str.strip() == "").all(axis=1)
    kept: pd.DataFrame = table.drop(index=may_be_blank.index[blank])
    return kept.reset_index(drop=True)


def first_table(root: Path, names: Sequence[str], *, source: str) -> Path:
    """The first of the tables that is in `root`, as it is or packed as .gz. UserError if none is."""
    found = [path for name in names for path in (root / name, root / f"{name}.gz") if path.is_file()]
    if not found:
        raise UserError(f"{source}: no {' or '.join(names)} in {root}, nor packed as .gz; correct `root`")
    return found[0]


def read_names(path: Path) -> list[str]:
    """The names in a list, separated by white space. UserError if it cannot be read or is not text in UTF-8."""
    return read_text(path, what="data", advice=ADVICE).split()


def require_columns(table: pd.DataFrame, required: Sequence[str], *, source: str, advice: str = _OTHER_TABLE) -> None:
    """Refuse (UserError) a table without the required columns; names the missing and the existing ones.

    advice: the end of the message.
    """
    there = list(map(str, table.columns))
    missing = [name for name in dict.fromkeys(required) if name not in there]
    if missing:
        named = ", ".join(f"{name!r}{nearest(name, there)}" for name in missing)
        if len(there) == 1:
            advice = f"between cells must stand a comma, semicolon or tab; {advice}"
        raise UserError(f"data: {source} has no column {named}; it has {', '.join(map(_shown, there))}; {advice}")


def _shown(name: str) -> str:
    """A name as it is, or with quotes and escapes where something in it cannot be seen."""
    return name if name.isprintable() and name == name.strip() else repr(name)


def _delimiter(text: str) -> str:
    """What stands between the cells of the header, the first line that is not empty."""
    header = next((line for line in StringIO(text) if line.strip()), "")
    return max(DELIMITERS, key=header.count)


def _rows(text: str, path: Path, delimiter: str) -> Iterator[Row]:
    """The rows that are not empty. UserError where the text is not a CSV."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    last = 0
    try:
        for row in reader:
            last = reader.line_num
            if row:
                yield last, row
    except csv.Error as error:
        raise UserError(
            f"data: {path} is not a CSV table: the row that begins in line {last + 1}: {error}; is a quotation mark "
            "not closed, or not doubled inside a cell?"
        ) from None


def _check_header(header: list[str], path: Path) -> None:
    if not any(name.strip() for name in header):
        raise UserError(f"data: {path} is not a CSV table: it has no header; save it in UTF-8, with commas")
    twice = [name for name, times in Counter(header).items() if times > 1 and name.strip()]
    if twice:
        raise UserError(f"data: {path} has two columns {', '.join(map(repr, twice))}; rename or remove one")


def _check_lengths(rows: Iterator[Row], names: list[str], path: Path) -> None:
    """UserError that names the rows with more cells than the header, or fewer, which would turn into blank ones.

    The cells of columns without a name may be missing at the end.
    """
    num_needed = max(place for place, name in enumerate(names, start=1) if name.strip())
    wrong = [f"line {line} has {len(row)} cells" for line, row in rows if not num_needed <= len(row) <= len(names)]
    if wrong:
        more = f" and {len(wrong) - _SHOWN_LINES} more" if len(wrong) > _SHOWN_LINES else ""
        raise UserError(
            f"data: {path}: the header has {len(names)} cells, but {', '.join(wrong[:_SHOWN_LINES])}{more}; complete "
            "them, with commas or semicolons between blank cells too, or remove lines above the header"
        )

"""The cells of text tables as numbers and label values. Errors are reported, not guessed away."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.labels import FINDINGS, map_names, nearest
from cxr.tables import Problems
from cxr.wording import counted

UNKNOWN_NAME = "unknown finding"
UNKNOWN_FINDING = "image with an unknown finding"
BAD_LABEL = "label value outside {1, 0, -1, blank}"

_SHOWN_VALUES = 5

MEANING = (
    dict.fromkeys(("oui", "yes", "vrai", "true", "positif", "positive", "présent", "present", "x"), 1)
    | dict.fromkeys(("non", "no", "faux", "false", "négatif", "negative", "absent"), 0)
    | dict.fromkeys(("douteux", "incertain", "possible", "probable", "uncertain", "?"), -1)
)
"""Frequent words for labels in lower case, which messages propose. Nothing is read by them."""

NOTHING = frozenset({"nan", "none", "null", "na", "n/a", "<na>", "#n/a", "nat"})
"""What programs write for a blank cell, in lower case."""

SEXES = {"": ""} | dict.fromkeys(("f", "female", "femme"), "F") | dict.fromkeys(("m", "male", "h", "homme"), "M")

DECIMAL_COMMA = re.compile(r"^(\s*-?\d+),(\d{1,2}|\d{4,})(\s*)$")
"""12,5 as spreadsheets write it in many countries. 1,234 is not read, since it may be a thousand and more."""

Mask = npt.NDArray[np.bool_]


def numbers(column: pd.Series) -> npt.NDArray[np.float64]:
    """(N,) float64 of a text column; NaN where a cell is blank or not a number. A decimal comma is read as a point."""
    values = pd.to_numeric(column.str.replace(DECIMAL_COMMA, r"\1.\2", regex=True), errors="coerce")
    return np.asarray(values, dtype=np.float64)


def blank_rows(table: pd.DataFrame) -> "pd.Series[bool]":
    """(N,) whether all cells of a row are blank."""
    blank: pd.Series[bool] = (table.apply(lambda column: column.str.strip()) == "").all(axis=1)
    return blank


def finding_labels(
    table: pd.DataFrame, mapping: Mapping[str, str], rows: pd.Series, problems: Problems, *, words_key: str = ""
) -> tuple[pd.DataFrame, Mask]:
    """Labels from text cells: 1, 0, -1, or NaN for a blank cell. Anything else is a problem.

    Args:
        table: (N, columns) text cells, one column per finding. A column that `mapping` lacks is a problem.
        mapping: column -> canonical finding. Columns of the same finding are merged, see `merge_columns`.
        rows: (N,) names of the rows, for the messages.
        words_key: the setting that reads words as labels. If there is one, `table` must hold all rows of a file: an
            error names the words of each column once, with the first row.

    Returns:
        the labels in the order of `merge_columns`, and an (N,) mask of the rows with an invalid cell.
    """
    names = known_names(map(str, table.columns), mapping, problems)
    bad_rows = np.zeros(len(table), dtype=bool)
    values: dict[str, npt.NDArray[np.float64]] = {}
    cells: dict[int, list[str]] = {}
    summary: list[str] = []
    for name in names:
        text = table[name]
        value = numbers(text)
        bad = ~np.isin(value, (1, 0, -1)) & (text != "").to_numpy()
        # stripping only these cells halves the time of the loop
        bad[bad] = (text[bad].str.strip() != "").to_numpy()
        if bad.any() and words_key:
            summary.append(_bad_column(name, text, bad, words_key=words_key))
        for place in np.flatnonzero(bad).tolist():
            cells.setdefault(place, []).append(f"column {name!r}, value {text.iloc[place]!r}")
        bad_rows |= bad
        values[name] = value
    problems.add_all([", ".join([rows.iloc[place], *cells[place]]) for place in sorted(cells)], BAD_LABEL)
    problems.sum_up(BAD_LABEL, summary)
    return merge_columns(pd.DataFrame(values, index=table.index), names), bad_rows


def _bad_column(name: str, text: "pd.Series[str]", bad: Mask, *, words_key: str) -> str:
    """What stands in the bad cells of a column, how often, and the setting that reads it."""
    found = Counter(text[bad].str.strip()).most_common()
    shown = ", ".join(f"{cell!r} ({counted(num, 'row')})" for cell, num in found[:_SHOWN_VALUES])
    more = f" and {len(found) - _SHOWN_VALUES} other values" if len(found) > _SHOWN_VALUES else ""
    row = int(np.flatnonzero(bad)[0]) + 2  # row 1 is the header
    line = f"column {name!r} has {shown}{more}, first in row {row}; expected 1, 0, -1 or blank"
    known = {cell: MEANING[cell.lower()] for cell, _ in found[:_SHOWN_VALUES] if cell.lower() in MEANING}
    if all(cell.lower() in NOTHING for cell, _ in found[:_SHOWN_VALUES]):
        return f"{line}; leave these cells blank"
    pairs = ", ".join(f"{cell!r}: {value}" for cell, value in (known or {"oui": 1, "non": 0}).items())
    return f"{line}; {words_key}: {{{pairs}}} reads words"


def listed_labels(
    listed: pd.Series, mapping: Mapping[str, str], problems: Problems, *, columns: Iterable[str]
) -> tuple[pd.DataFrame, Mask]:
    """Labels from a list of names per row: 1 for the findings that it names, 0 for the others.

    Args:
        listed: (N,) lists of names; an empty list is a row without findings.
        mapping: name -> canonical finding. A name that it lacks is a problem.
        columns: names whose findings get a column even if no row lists them.

    Returns:
        the labels in the order of FINDINGS, and an (N,) mask of the rows that list an unknown name.
    """
    named = listed.explode().dropna()
    names = known_names(named, mapping, problems)
    unknown = ~named.isin(list(names))
    findings = {mapping[name] for name in (*columns, *names)}
    rows, known = named.index[~unknown], named[~unknown].map(names)
    present = [finding for finding in FINDINGS if finding in findings]
    labels = {finding: listed.index.isin(rows[known == finding]).astype(np.float64) for finding in present}
    return pd.DataFrame(labels, index=listed.index), listed.index.isin(named.index[unknown])


def with_a_finding(listed: "pd.Series[list[str]]", mapping: Mapping[str, object], problems: Problems) -> pd.Series:
    """The lists without the names that `mapping` lacks, which are counted by name: for releases that index far more
    than findings.
    """
    others = Counter(name for names in listed for name in names if name not in mapping)
    for name, num in sorted(others.items()):
        problems.count(f"labels without a finding of ours: {name}", num)
    return listed.map(lambda names: [name for name in names if name in mapping])


def merge_columns(values: pd.DataFrame, names: Mapping[str, str], *, order: Sequence[str] = FINDINGS) -> pd.DataFrame:
    """Rename label columns to findings, in the given order; findings that it lacks come last.

    Columns of the same finding become one: 1 if any is 1, else -1 if any is -1, else 0 if any is 0, else NaN.
    """
    merged: dict[str, npt.NDArray[np.float64]] = {}
    for source_name in map(str, values.columns):
        column = values[source_name].to_numpy(dtype=np.float64)
        finding = names[source_name]
        merged[finding] = _stronger(merged[finding], column) if finding in merged else column
    present = [finding for finding in order if finding in merged]
    present += [finding for finding in merged if finding not in order]
    return pd.DataFrame({finding: merged[finding] for finding in present}, index=values.index)


def _stronger(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    result = np.full(a.shape, np.nan)
    for value in (0.0, -1.0, 1.0):
        result[(a == value) | (b == value)] = value
    return result


def known_names(names: Iterable[str], mapping: Mapping[str, str], problems: Problems) -> dict[str, str]:
    """Canonical finding of each name in `mapping`. Other names are problems, with the nearest known name."""
    rows = Counter(names)
    unknown = [name for name in rows if name not in mapping]
    problems.add_all([f"{name!r}{nearest(name, mapping)}, {rows[name]} times" for name in unknown], UNKNOWN_NAME)
    return map_names([name for name in rows if name in mapping], mapping, source=problems.source)


def sexes(column: pd.Series, problems: Problems) -> pd.Series:
    """ "F", "M", or "" for any other cell; cells that are not blank are counted as unknown."""
    short = column.str.strip().str.lower()
    problems.count("values of sex that are neither F nor M, set to unknown", int((~short.isin(list(SEXES))).sum()))
    return look_up(short, SEXES)


def look_up(column: "pd.Series[str]", table: Mapping[str, str]) -> "pd.Series[str]":
    """The value of each cell in `table`, or "" for a cell that `table` lacks."""
    return pd.Series([table.get(cell, "") for cell in column], index=column.index, dtype=str)


def ages(column: pd.Series, problems: Problems, *, low: float = 0, high: float = 120) -> pd.Series:
    """Years of a text column. Cells that are not a number in [low, high] become NaN; unless blank, they are counted."""
    text = column.str.strip()
    years = numbers(text.str.removesuffix("Y"))
    return _plausible(years, (text != "").to_numpy(), problems, low=low, high=high)


def ages_between(
    born: npt.NDArray[np.float64], taken: npt.NDArray[np.float64], problems: Problems, *, per_year: int = 1
) -> pd.Series:
    """Whole years between two dates (NaN unknown), which are years, or numbers such as 20140915 with per_year 10,000.

    Ages outside [0, 120] become NaN and are counted.
    """
    years = np.floor((taken - born) / per_year)
    return _plausible(years, np.isfinite(years), problems, low=0, high=120)


def _plausible(
    years: npt.NDArray[np.float64], given: Mask, problems: Problems, *, low: float, high: float
) -> pd.Series:
    unknown = ~((years >= low) & (years <= high))
    count = int((unknown & given).sum())
    problems.count(f"ages that are no number in [{low:g}, {high:g}], set to unknown", count)
    return pd.Series(np.where(unknown, np.nan, years))

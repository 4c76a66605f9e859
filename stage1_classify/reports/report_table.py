"""The table of reports that the user gives."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd

from cxr.config import UserError
from cxr.datasets.text_files import read_text_table, require_columns
from cxr.labels import Language
from cxr.wording import counted
from stage1_classify.reports.characters import has_wrong_letters, is_rtf, readable
from stage1_classify.reports.tables import LANGUAGES

REPORT_ID, REPORT, LANGUAGE = "report_id", "report", "language"
COLUMNS = (REPORT_ID, REPORT, LANGUAGE)
_SHOWN = 20

log = logging.getLogger("raybox")


class Report(NamedTuple):
    """One report. language: None where the table does not name it."""

    report_id: str
    text: str
    language: Language | None


@dataclass(frozen=True)
class ReportTable:
    """The rows of the user's table, and its reports: rows with the same id, such as two images, share one report.

    rows: columns report_id and what is carried over, all text.
    """

    rows: pd.DataFrame
    reports: tuple[Report, ...]


def column_names(given: Sequence[str]) -> dict[str, str]:
    """Parse texts such as "report=Compte rendu": our name of a column -> its name in the table.

    Raises:
        UserError: another text, an unknown name, or a name or column that is given twice.
    """
    names: dict[str, str] = {}
    problems: list[str] = []
    for text in given:
        name, equals, column = text.partition("=")
        if not (equals and column and name in COLUMNS):
            problems.append(f"--columns {text}: expected NAME=COLUMN with a NAME of {', '.join(COLUMNS)}")
        elif name in names or column in names.values():
            problems.append(f"--columns {text}: {name} or {column} is given twice; remove one")
        names[name] = column
    if problems:
        raise UserError(problems)
    return names


def read_reports(
    path: Path,
    *,
    reserved: Sequence[str],
    language: Language | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
    encoding: str = "utf-8",
) -> ReportTable:
    """Read the table: columns report_id, report, optionally language; others are carried over.

    Args:
        reserved: names of columns that the results will have.
        language: of the reports whose row does not name it.
        columns: report_id, report or language -> its name in the table, where that differs.
        encoding: of the table, as Python calls it.

    Raises:
        UserError: no such table or column, a blank or ambiguous id, an unknown language, a column with a reserved name,
            reports in RTF.
    """
    table = _with_our_names(path, columns, encoding=encoding)
    ids = table[REPORT_ID].str.strip()
    given = (
        table[LANGUAGE].str.strip().str.lower() if LANGUAGE in table else pd.Series("", index=table.index, dtype=str)
    )
    texts = table[REPORT].map(readable)
    first = pd.DataFrame({"id": ids, "text": texts, "language": given}).drop_duplicates()
    problems = [*_rtf(ids[table[REPORT].map(is_rtf).astype(bool)], path), *_bad_rows(first, path)]
    taken = [name for name in table.columns if name in reserved]
    problems += [f"{path}: column {name!r} has the name of a column of the result; rename it" for name in taken]
    if problems:
        raise UserError(problems)
    _warn_of_wrong_letters(first, path)
    cells = zip(first["id"], first["text"], first["language"], strict=True)
    reports = tuple(Report(str(name), str(text), LANGUAGE_OF[str(own)] or language) for name, text, own in cells)
    rows = table.drop(columns=[name for name in (REPORT_ID, REPORT, LANGUAGE) if name in table])
    rows.insert(0, REPORT_ID, ids)
    return ReportTable(rows, reports)


def _with_our_names(path: Path, columns: Mapping[str, str], *, encoding: str) -> pd.DataFrame:
    """The table, with the columns called report_id, report and language. UserError as `read_reports`."""
    required = [columns.get(name, name) for name in (REPORT_ID, REPORT)]
    advice = "give the path of the table of reports"
    table = read_text_table(path, advice=advice, encoding=encoding, encoding_key="--encoding ")
    advice = f"--columns {REPORT_ID}=... {REPORT}=... names the columns of a table that calls them otherwise"
    require_columns(table, [*required, *columns.values()], source=str(path), advice=advice)
    taken = [name for name, column in columns.items() if name in table and column != name]
    if taken:
        raise UserError(f"{path}: has a column {taken[0]!r} next to {columns[taken[0]]!r}; rename or remove one")
    return table.rename(columns={column: name for name, column in columns.items()})


def _warn_of_wrong_letters(first: pd.DataFrame, path: Path) -> None:
    wrong = first[first["text"].map(has_wrong_letters).astype(bool)]
    if not wrong.empty:
        log.warning(
            "%s: %s with letters of another encoding, such as %r for %r, first report_id %r; their words with accents "
            "are not found: export the table in UTF-8, or correct --encoding",
            path,
            counted(len(wrong), "report"),
            "Ã©",
            "é",
            wrong["id"].iloc[0],
        )


def _rtf(ids: "pd.Series[str]", path: Path) -> list[str]:
    if ids.empty:
        return []
    line = f"{path}: {counted(len(ids), 'report')} in RTF, first {REPORT_ID} {ids.iloc[0]!r}; export them as plain text"
    return [line]


LANGUAGE_OF: dict[str, Language | None] = {"": None, **{language: language for language in LANGUAGES}}


def _bad_rows(first: pd.DataFrame, path: Path) -> list[str]:
    """What is wrong with the reports; `first` has one row for each different id, text and language."""
    problems = [f"{path}: {REPORT_ID} is blank in a row; give each report an id"] if (first["id"] == "").any() else []
    twice = first.loc[first["id"].duplicated() & (first["id"] != ""), "id"].unique().tolist()
    problems += [
        f"{path}: {REPORT_ID} {name!r} has several reports or languages; give each report its own id"
        for name in twice[:_SHOWN]
    ]
    unknown = first.loc[~first["language"].isin(list(LANGUAGE_OF)), "language"].unique().tolist()
    problems += [
        f"{path}: {LANGUAGE} {name!r}, expected {', '.join(LANGUAGES)} or a blank cell; correct the table"
        for name in unknown[:_SHOWN]
    ]
    more = len(twice) + len(unknown) - len(twice[:_SHOWN]) - len(unknown[:_SHOWN])
    return [*problems, f"{path}: and {more} more"] if more else problems

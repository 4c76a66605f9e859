"""The files of a labelling: labels.csv, sides.csv and evidence.jsonl."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pandas as pd

from cxr.runs.whole_files import whole_file
from cxr.spreadsheet_cells import inert
from stage1_classify.reports.records import Record, sentences_of
from stage1_classify.reports.report_table import LANGUAGE, REPORT_ID

LABELS, SIDES, EVIDENCE = "labels.csv", "sides.csv", "evidence.jsonl"
SIDE_COLUMNS = [REPORT_ID, "finding", "side", "zone"]
MARKS = ("compared", "known")
"""Remarks on the report: it compares with an earlier examination; it names something as known."""


@dataclass
class Counts:
    """Counts over all reports. labels: (finding, 1, 0 or -1). sentences: (finding, verdict)."""

    num_reports: int = 0
    num_empty: int = 0
    """Reports that mention no finding."""
    languages: Counter[str] = field(default_factory=Counter)
    """"" is a report in no known language."""
    labels: Counter[tuple[str, int]] = field(default_factory=Counter)
    sentences: Counter[tuple[str, str]] = field(default_factory=Counter)
    located: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)

    def add(self, record: Record) -> None:
        self.num_reports += 1
        self.num_empty += not record["labels"]
        self.languages[record["language"] or ""] += 1
        self.labels.update((finding, label) for finding, label in record["labels"].items())
        self.sentences.update((one["finding"], one["verdict"]) for one in sentences_of(record))
        self.located.update(record["places"].keys())
        self.remarks.update(record["remarks"])


def result_columns(findings: Sequence[str], remarks: Sequence[str]) -> list[str]:
    """The columns of labels.csv after report_id and what is carried over."""
    return [LANGUAGE, *findings, *remarks, *MARKS]


def write_tables(
    folder: Path, rows: pd.DataFrame, records: Iterable[Record], *, findings: Sequence[str], remarks: Sequence[str]
) -> Counts:
    """Write the three files and count what is in them.

    Args:
        rows: the rows of labels.csv: report_id, then what is carried over.
        records: one per report.
        findings, remarks: names of columns, in their order. Other findings of the records are left out.
    """
    counts = Counts()
    cells: dict[str, list[Any]] = {}
    columns = [*findings, *remarks, *MARKS]
    with _replacing(folder / SIDES) as sides, _replacing(folder / EVIDENCE) as evidence:
        side_writer = csv.writer(sides, lineterminator="\n")
        side_writer.writerow(SIDE_COLUMNS)
        for record in (_of_findings(record, set(findings)) for record in records):
            counts.add(record)
            side_writer.writerows(_side_rows(record))
            evidence.writelines(_evidence_lines(record))
            known = record["labels"] | dict.fromkeys(record["remarks"], 1)
            cells[record[REPORT_ID]] = [record["language"] or "", *(known.get(name, "") for name in columns)]
    with _replacing(folder / LABELS) as labels:
        writer = csv.writer(labels, lineterminator="\n")
        writer.writerow(map(inert, [*rows.columns, LANGUAGE, *columns]))
        writer.writerows(map(inert, [*row, *cells[row[0]]]) for row in rows.itertuples(index=False, name=None))
    return counts


def _of_findings(record: Record, findings: Set[str]) -> Record:
    kept = {
        key: {finding: value for finding, value in record[key].items() if finding in findings}
        for key in ("labels", "places")
    }
    return {**record, **kept, "evidence": [one for one in record["evidence"] if one["finding"] in findings]}


def _side_rows(record: Record) -> Iterator[list[str]]:
    for finding, places in record["places"].items():
        yield from ([*map(inert, (record[REPORT_ID], finding)), side, zone] for side, zone in places)


def _evidence_lines(record: Record) -> Iterator[str]:
    for one in record["evidence"]:
        entry = {REPORT_ID: record[REPORT_ID], **{key: value for key, value in one.items() if key not in _POSITIONS}}
        yield json.dumps(entry, ensure_ascii=False) + "\n"


_POSITIONS = ("begin", "stop", "cue_begin")


@contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """A text file that appears under its name when it is complete."""
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        yield file

"""What is kept of each labelled report: one line of JSON, so that an interrupted run resumes after the last one."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from cxr.config import UserError
from cxr.json_lines import ADVICE, WholeLines, drop_incomplete_line
from cxr.own_json import Shape
from stage1_classify.reports.labeller import Evidence, ReportLabels
from stage1_classify.reports.report_table import Report

Record = dict[str, Any]
"""report_id, language, labels (finding -> 1, 0, -1), places (finding -> [side, zone]), remarks, evidence."""


def record_of(report: Report, found: ReportLabels) -> Record:
    """The record of a labelled report, in JSON's types."""
    return {
        "report_id": report.report_id,
        "language": found.language,
        "labels": found.labels(),
        "places": {finding: [list(place) for place in places] for finding, places in found.places().items()},
        "remarks": sorted(found.remarks),
        "evidence": [_evidence(one, report.text) for one in found.evidence],
    }


def sentences_of(record: Record) -> Iterator[Record]:
    """The evidence of a record, once per finding, verdict and sentence: a sentence may name a finding twice."""
    seen: set[tuple[str, str, str]] = set()
    for one in record["evidence"]:
        key = one["finding"], one["verdict"], one["sentence"]
        if key not in seen:
            seen.add(key)
            yield one


def _evidence(one: Evidence, text: str) -> Record:
    """begin, stop, cue_begin: characters of the sentence."""
    mention, (begin, stop) = one.mention, one.sentence
    entry: Record = {
        "finding": mention.finding,
        "verdict": mention.verdict,
        "reason": mention.reason,
        "sentence": text[begin:stop],
        "begin": mention.begin - begin,
        "stop": mention.stop - begin,
        "cue": text[slice(*mention.cue)] if mention.cue else "",
        "cue_begin": mention.cue[0] - begin if mention.cue else None,
        "places": [list(place) for place in mention.places],
        "marks": list(one.marks),
    }
    return entry


class _Evidence(Shape):
    finding: str
    verdict: str
    reason: str | None
    sentence: str
    begin: int
    stop: int
    cue: str
    cue_begin: int | None
    places: list[list[str]]
    marks: list[str]


class _Record(Shape):
    report_id: str
    language: str | None
    labels: dict[str, Literal[1, 0, -1]]
    places: dict[str, list[list[str]]]
    remarks: list[str]
    evidence: list[_Evidence]


class RecordFile:
    """The growing file of records. num_done: the records that an interrupted run has left."""

    def __init__(self, path: Path) -> None:
        """Open `path`, new or from an interrupted run. An incomplete last line is removed."""
        self.path = path
        self.num_done = drop_incomplete_line(path)

    def add(self, lines: Iterable[str]) -> None:
        """Append records, each as one line of JSON."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def __iter__(self) -> Iterator[Record]:
        """Each record, in the order of `add`. UserError for a line that is none."""
        yield from WholeLines([self.path] if self.path.is_file() else [], _Record)

    def check(self, reports: Sequence[Report]) -> None:
        """UserError unless the records are those of the first reports, in their order."""
        for number, record in enumerate(self):
            expected = reports[number].report_id if number < len(reports) else "no further report"
            if record["report_id"] != expected:
                got = record["report_id"]
                raise UserError(f"{self.path}: line {number + 1}: got report {got!r}, expected {expected!r}; {ADVICE}")

"""What is kept of each labelled report: one line of JSON, so that an interrupted run resumes after the last one."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cxr.json_lines import WholeLines, drop_incomplete_line
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


def _evidence(one: Evidence, text: str) -> Record:
    """begin, stop, cue_begin, cue_stop: characters of the sentence."""
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
        """Each record, in the order of `add`."""
        yield from WholeLines([self.path] if self.path.is_file() else [])

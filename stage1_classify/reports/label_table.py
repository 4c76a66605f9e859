"""Label a table of reports, in several processes and in one run folder that can be resumed."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path

from cxr.config import Settings, UserError
from cxr.labels import Language, load_terminology
from cxr.processes import map_in_processes
from cxr.progress import track
from cxr.runs.run_folder import FinishedRun, Run, open_run, start_run
from cxr.threads import num_cores
from stage1_classify.reports.labeller import ReportLabeller
from stage1_classify.reports.language import usual_language
from stage1_classify.reports.outputs import EVIDENCE, LABELS, SIDES, Counts, result_columns, write_tables
from stage1_classify.reports.page import PAGE, write_page
from stage1_classify.reports.records import RecordFile, record_of
from stage1_classify.reports.report_table import REPORT_ID, Report, ReportTable, read_reports
from stage1_classify.reports.tables import FOLDER, LANGUAGES, finding_names, load_tables, remark_names

STAGE = "report_labels"
RECORDS = "records.partial.jsonl"
CHUNK = 200
"""Reports that a process labels at a time. An interruption loses at most this many per process."""

FEW = 10 * CHUNK
"""Up to so many reports one process is as fast as several, because each needs seconds to start."""

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class Call:
    """What the user asked for. label_file: own findings and synonyms. columns, encoding: see `read_reports`."""

    reports: Path
    out: Path
    label_file: Path | None = None
    language: Language | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    encoding: str = "utf-8"
    num_workers: int = 1


class CallSettings(Settings):
    """What identifies a call, so that the same command resumes an interrupted one."""

    language: Language | None
    columns: dict[str, str] = {}
    encoding: str = "utf-8"


def label_table(call: Call) -> str:
    """Label all reports of a table; returns a summary in one line.

    The output folder gets labels.csv, sides.csv, evidence.jsonl and report.html. A call that was interrupted resumes
    after the last whole report, and writes the same files as one that was not.

    Raises:
        UserError: a mistake in the table or in the label file, no process, or `out` holds something else.
    """
    if call.num_workers < 1:
        raise UserError(f"--workers {call.num_workers}: expected 1 or more")
    terms = load_terminology(call.label_file)
    tables = load_tables(terms)
    findings = finding_names(tables, terms)
    remarks = remark_names(tables)
    _refuse_own_columns(findings, remarks, source=call.label_file)
    reserved = result_columns(findings, remarks)[1:]
    table = read_reports(
        call.reports, reserved=reserved, language=call.language, columns=call.columns, encoding=call.encoding
    )
    if call.label_file is not None:
        labeller_of(call.label_file)  # before a run begins, which refuses a corrected label file
    inputs = {"reports": call.reports, **{f"cues_{language}": FOLDER / f"{language}.yaml" for language in LANGUAGES}}
    inputs |= {"label_file": call.label_file} if call.label_file else {}
    settings = CallSettings(language=call.language, columns=dict(call.columns), encoding=call.encoding)
    run = start_run(call.out, stage=STAGE, settings=settings, inputs=inputs)
    if run.state != "finished":
        _label(run, table, call, findings=findings, remarks=remarks)
    (run.dir / RECORDS).unlink(missing_ok=True)
    run.release()
    return _summary(open_run(call.out, stage=STAGE), call.out)


def _refuse_own_columns(findings: Sequence[str], remarks: Sequence[str], *, source: Path | None) -> None:
    """UserError for findings with the name of another column of labels.csv, which would be there twice."""
    taken = {REPORT_ID, *result_columns([], remarks)}.intersection(findings)
    if taken:
        raise UserError([f"{source}: {name!r} is a column of {LABELS}; rename the finding" for name in sorted(taken)])


def _summary(done: FinishedRun, out: Path) -> str:
    count = {name: int(value or 0) for name, value in done.metrics.items()}
    unknown = count["reports_without_language"]
    text = f"{count['reports']} reports, {count['reports_without_findings']} of them without any finding"
    text += f", {unknown} in no known language (give --language, or a column language)" if unknown else ""
    return f"{text} -> {out / PAGE}"


def _label(run: Run, table: ReportTable, call: Call, *, findings: Sequence[str], remarks: Sequence[str]) -> None:
    records = RecordFile(run.dir / RECORDS)
    records.check(table.reports)
    waiting = table.reports[records.num_done :]
    tables = load_tables(load_terminology(call.label_file))
    usual = usual_language([report.text for report in table.reports if report.language is None], tables)
    if records.num_done:
        log.info("%d reports are already labelled", records.num_done)
    with run.phase(f"labelling {len(waiting)} reports"):
        done = _labelled(waiting, call.label_file, usual=usual, num_workers=call.num_workers)
        for lines in track(done, "labelling, in chunks", total=-(-len(waiting) // CHUNK)):
            records.add(lines)
    counts = write_tables(run.dir, table.rows, records, findings=findings, remarks=remarks)
    write_page(run.dir, records, counts, findings=findings, remarks=remarks, source=call.reports.name)
    outputs = {Path(name).stem: run.dir / name for name in (LABELS, SIDES, EVIDENCE, PAGE)}
    run.finish(_figures(counts), outputs, findings=list(findings))


def _figures(counts: Counts) -> dict[str, float | None]:
    figures: dict[str, float | None] = {
        "reports": counts.num_reports,
        "reports_without_findings": counts.num_empty,
        "reports_without_language": counts.languages[""],
    }
    return figures | {f"reports_{language}": counts.languages[language] for language in LANGUAGES}


def _labelled(
    reports: Sequence[Report], own: Path | None, *, usual: Language | None, num_workers: int
) -> Iterator[list[str]]:
    """The records of the reports as lines of JSON, in their order, in chunks."""
    label = partial(_label_chunk, own=own, usual=usual)
    chunks = _in_chunks(reports)
    num_workers = min(num_workers, num_cores())  # more are no faster, and each takes memory
    if num_workers == 1 or len(reports) <= FEW:
        yield from map(label, chunks)
        return
    yield from map_in_processes(label, chunks, num_workers=num_workers)


def _in_chunks(reports: Iterable[Report]) -> Iterator[list[Report]]:
    rest = iter(reports)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


@lru_cache(maxsize=1)
def labeller_of(own: Path | None) -> ReportLabeller:
    """The labeller of this process. UserError for a phrase of the label file that cannot be searched."""
    tables = load_tables(load_terminology(own))
    try:
        return ReportLabeller(tables)
    except UserError as error:
        raise UserError([f"{own}: {problem}" for problem in error.problems]) from None


def _label_chunk(reports: Sequence[Report], *, own: Path | None, usual: Language | None) -> list[str]:
    label = labeller_of(own)
    found = (record_of(report, label(report.text, report.language, usual=usual)) for report in reports)
    return [json.dumps(record, ensure_ascii=False) for record in found]

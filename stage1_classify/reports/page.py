"""report.html of a labelling: the counts, and sentences in which finding and cue are highlighted."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cxr.labels import slug
from cxr.runs.run_folder import atomic_write_text
from eval.report.templating import page_environment
from stage1_classify.reports.outputs import MARKS, Counts
from stage1_classify.reports.records import Record, sentences_of

PAGE = "report.html"
MAX_SENTENCES = 20
"""Sentences shown for one finding and verdict."""

VERDICTS = {"present": "positive", "uncertain": "uncertain", "absent": "negative", "ignored": "not counted"}
LABELS = {1: "present", -1: "uncertain", 0: "absent"}
REASONS = {
    "indication": "the question of the examination",
    "history": "the patient's history",
    "prior": "an earlier image",
    "limits": "cannot be assessed",
}
REMARKS = {
    "cut_off_bases": "lung bases cut off",
    "not_read_again": "not read again",
    "poor_quality": "poor image quality",
    "low_inspiration": "low inspiration",
    "compared": "compared with an earlier examination",
    "known": "known findings",
}
SIDES = {"L": "left", "R": "right", "B": "both sides", "": ""}


class Part(NamedTuple):
    """A part of a sentence. kind: "finding", "cue", or "" for other text."""

    text: str
    kind: str


class Shown(NamedTuple):
    """A sentence as the page shows it."""

    report_id: str
    parts: tuple[Part, ...]
    facts: str


def write_page(
    folder: Path,
    records: Iterable[Record],
    counts: Counts,
    *,
    findings: Sequence[str],
    remarks: Sequence[str],
    source: str,
) -> None:
    """Write report.html. `records` is gone through once."""
    shown = _sentences(records, counts)
    template = page_environment(Path(__file__).parent / "templates").get_template("labels.html.j2")
    rows = [_row(finding, counts) for finding in findings]
    page = template.render(
        title=f"Labels from {source}",
        counts=counts,
        rows=rows,
        verdicts=VERDICTS,
        remarks=[(REMARKS.get(name, name), name, counts.remarks[name]) for name in [*remarks, *MARKS]],
        sections=[_section(finding, shown, counts) for finding in findings if _num_sentences(finding, counts)],
        max_sentences=MAX_SENTENCES,
    )
    atomic_write_text(folder / PAGE, page)


def _num_sentences(finding: str, counts: Counts) -> int:
    return sum(counts.sentences[finding, verdict] for verdict in VERDICTS)


def _row(finding: str, counts: Counts) -> dict[str, object]:
    """A row of the table of counts."""
    cells = {verdict: counts.labels[finding, label] for label, verdict in LABELS.items()}
    ignored = counts.sentences[finding, "ignored"]
    return {
        "finding": finding,
        "id": slug(finding),
        "cells": cells | {"ignored": ignored},
        "linked": {verdict: counts.sentences[finding, verdict] > 0 for verdict in VERDICTS},
        "located": counts.located[finding],
        "blank": counts.num_reports - sum(cells.values()),
    }


def _section(finding: str, shown: dict[tuple[str, str], list[Shown]], counts: Counts) -> dict[str, object]:
    parts = [
        {"verdict": verdict, "num": counts.sentences[finding, verdict], "sentences": shown[finding, verdict]}
        for verdict in VERDICTS
        if shown[finding, verdict]
    ]
    return {"finding": finding, "id": slug(finding), "parts": parts}


def _sentences(records: Iterable[Record], counts: Counts) -> dict[tuple[str, str], list[Shown]]:
    """(finding, verdict) -> sentences from the whole table, at equal distances, each once."""
    shown: dict[tuple[str, str], list[Shown]] = defaultdict(list)
    known: set[tuple[str, str, str]] = set()
    seen: Counter[tuple[str, str]] = Counter()
    for record in records:
        for one in sentences_of(record):
            key = one["finding"], one["verdict"]
            place, total = seen[key], counts.sentences[key]
            seen[key] += 1
            due = place * MAX_SENTENCES >= len(shown[key]) * total
            if due and len(shown[key]) < MAX_SENTENCES and (*key, one["sentence"]) not in known:
                known.add((*key, one["sentence"]))
                shown[key].append(_shown(record["report_id"], one))
    return shown


def _shown(report_id: str, one: Record) -> Shown:
    spans = [(one["begin"], one["stop"], "finding")]
    if one["cue_begin"] is not None:
        spans.append((one["cue_begin"], one["cue_begin"] + len(one["cue"]), "cue"))
    parts, at = [], 0
    for begin, stop, kind in sorted(spans):
        parts += [Part(one["sentence"][at:begin], ""), Part(one["sentence"][begin:stop], kind)]
        at = stop
    parts.append(Part(one["sentence"][at:], ""))
    facts = [" ".join(filter(None, [SIDES[side], zone])) for side, zone in one["places"]]
    facts += [REASONS[one["reason"]]] if one["reason"] in REASONS else []
    facts += [REMARKS[mark] for mark in one["marks"]]
    return Shown(report_id, tuple(part for part in parts if part.text), "; ".join(facts))

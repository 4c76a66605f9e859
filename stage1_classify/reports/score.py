"""Figures of the labeller on sentences or reports with expected labels: F1 for mention, negation, uncertainty, side.

The table has the columns text and labels, optionally language and kind. The cell `labels` lists what the text says:
``Pleural Effusion=1[L lower, R]; Pneumothorax=0; cut_off_bases``. 1 is present, 0 absent, -1 uncertain; in brackets
stand side (L, R, B, or - for none) and zone; a name alone is a remark or mark. Other findings are not mentioned.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cxr.config import UserError
from cxr.datasets.text_files import read_text_table
from cxr.labels import NO_FINDING, Language, nearest
from eval.stats.bootstrap import Interval, percentile_interval
from stage1_classify.reports.characters import readable
from stage1_classify.reports.labeller import ReportLabeller, ReportLabels
from stage1_classify.reports.report_table import LANGUAGE_OF

TASKS = ("mention", "present", "negation", "uncertainty", "side", "zone", "remark")
"""What is scored. mention: the report speaks of the finding. side, zone: of findings that are present or uncertain."""

NUM_RESAMPLES = 1000

_ENTRY = re.compile(r"(?P<name>[^=\[\]]+?)(?:=(?P<label>-1|0|1)(?:\[(?P<places>[^\]]*)\])?)?")
_TASK_OF = {1: "present", 0: "negation", -1: "uncertainty"}


class Expected(NamedTuple):
    """What a text says. labels: finding -> 1, 0, -1. places: finding -> {(side, zone)}."""

    labels: Mapping[str, int]
    places: Mapping[str, frozenset[tuple[str, str]]]
    remarks: frozenset[str]


class Example(NamedTuple):
    """A text with what it says."""

    text: str
    language: Language | None
    kind: str
    expected: Expected


class Score(NamedTuple):
    """Counts. found: expected and found. wrong: found, not expected."""

    found: int = 0
    missed: int = 0
    wrong: int = 0

    @property
    def support(self) -> int:
        return self.found + self.missed

    @property
    def f1(self) -> float | None:
        """None if it is neither expected nor found anywhere."""
        total = 2 * self.found + self.missed + self.wrong
        return 2 * self.found / total if total else None


class Answer(NamedTuple):
    """A text, and what of it the labeller found: expected and found values as (finding, task, value)."""

    example: Example
    expected: frozenset[tuple[str, str, str]]
    found: frozenset[tuple[str, str, str]]

    @property
    def is_right(self) -> bool:
        return self.expected == self.found


def read_examples(
    path: Path, *, findings: Sequence[str], remarks: Sequence[str], encoding: str = "utf-8"
) -> list[Example]:
    """Read a table of texts with expected labels. UserError with one line per cell that cannot be read."""
    table = read_text_table(path, required=["text", "labels"], encoding=encoding, encoding_key="--encoding ")
    examples, problems = [], []
    for number, row in enumerate(table.to_dict("records"), start=2):
        language = str(row.get("language", "")).strip().lower()
        try:
            expected = parse_labels(str(row["labels"]), findings=findings, remarks=remarks)
            if language not in LANGUAGE_OF:
                raise ValueError(f"unknown language {language!r}, expected en, fr or a blank cell")
        except ValueError as error:
            problems.append(f"{path}: row {number}: {error}")
            continue
        examples.append(Example(readable(str(row["text"])), LANGUAGE_OF[language], str(row.get("kind", "")), expected))
    if problems:
        raise UserError(problems)
    return examples


def parse_labels(cell: str, *, findings: Sequence[str], remarks: Sequence[str]) -> Expected:
    """Read a cell such as ``Pneumothorax=1[L upper]; compared``. ValueError if it is something else."""
    labels: dict[str, int] = {}
    places: dict[str, frozenset[tuple[str, str]]] = {}
    named: set[str] = set()
    for entry in filter(None, (part.strip() for part in cell.split(";"))):
        match = _ENTRY.fullmatch(entry)
        known = findings if match and match["label"] else remarks
        if match is None or match["name"] not in known:
            raise ValueError(f"cannot read {entry!r}{nearest(entry, [*findings, *remarks])}")
        if match["label"] is None:
            named.add(match["name"])
            continue
        labels[match["name"]] = int(match["label"])
        if match["places"]:
            places[match["name"]] = frozenset(map(_place, match["places"].split(",")))
    return Expected(labels, places, frozenset(named))


def _place(text: str) -> tuple[str, str]:
    side, _, zone = text.strip().partition(" ")
    if side not in ("L", "R", "B", "-") or zone not in ("", "upper", "middle", "lower"):
        raise ValueError(f"unknown place {text.strip()!r}, expected L, R, B or -, then upper, middle or lower")
    return side.replace("-", ""), zone


def answers_of(examples: Iterable[Example], labeller: ReportLabeller, *, findings: Collection[str]) -> list[Answer]:
    """Label all texts. findings: those that count."""
    answers = []
    for example in examples:
        found = _found(labeller(example.text, example.language), findings)
        answers.append(Answer(example, _values(example.expected), _values(found)))
    return answers


def score(answers: Iterable[Answer], *, task: str, finding: str | None = None) -> Score:
    """The counts of one task over all texts, of one finding or of all together (micro average)."""
    total = np.sum([_counts(answer, task, finding) for answer in answers], axis=0, initial=0, dtype=int)
    return Score(*map(int, np.broadcast_to(total, 3)))


def interval(answers: Sequence[Answer], *, task: str, seed: int = 0) -> Interval:
    """95 % bootstrap interval of the micro F1 of a task; texts are resampled."""
    counts = np.array([_counts(answer, task, None) for answer in answers], dtype=float).reshape(-1, 3)
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(counts), size=(NUM_RESAMPLES, len(counts)))
    found, missed, wrong = np.moveaxis(counts[picks].sum(axis=1), 1, 0)
    return percentile_interval(2 * found / np.maximum(2 * found + missed + wrong, 1))


def _counts(answer: Answer, task: str, finding: str | None) -> Score:
    expected, found = (
        {value for value in values if value[1] == task and finding in (None, value[0])}
        for values in (answer.expected, answer.found)
    )
    return Score(len(expected & found), len(expected - found), len(found - expected))


def _found(labels: ReportLabels, findings: Collection[str]) -> Expected:
    """The labeller's answer. No Finding counts only if a sentence says so, not if it follows from the others."""
    known = {finding: label for finding, label in labels.labels().items() if finding in findings}
    if not any(one.mention.finding == NO_FINDING for one in labels.evidence):
        known.pop(NO_FINDING, None)
    places = {
        finding: frozenset((one.side, one.zone) for one in own)
        for finding, own in labels.places().items()
        if finding in findings
    }
    return Expected(known, places, labels.remarks)


def _values(said: Expected) -> frozenset[tuple[str, str, str]]:
    """All (finding, task, value) that a text says."""
    marks = {(finding, "mention", "") for finding in said.labels}
    marks |= {(finding, _TASK_OF[label], "") for finding, label in said.labels.items()}
    for finding, places in said.places.items():
        marks |= {(finding, "side", side) for side, _ in places if side}
        marks |= {(finding, "zone", f"{side} {zone}") for side, zone in places if zone}
    return frozenset(marks | {(remark, "remark", "") for remark in said.remarks})

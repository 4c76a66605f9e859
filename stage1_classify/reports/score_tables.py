"""The figures of the labeller as tables."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cxr.config import UserError
from cxr.labels import load_terminology
from eval.report.blocks import Table
from eval.report.format import Cell, in_format, with_interval
from stage1_classify.reports.labeller import ReportLabeller
from stage1_classify.reports.outputs import MARKS
from stage1_classify.reports.score import TASKS, Answer, answers_of, interval, read_examples, score
from stage1_classify.reports.tables import LANGUAGES, finding_names, load_tables, remark_names

FINDING_TASKS = ("mention", "present", "negation", "uncertainty", "side", "zone")


def score_file(path: Path, *, own: Path | None = None, encoding: str = "utf-8") -> tuple[list[Answer], list[Table]]:
    """Label the texts of a table with expected labels, and compare. own: label file. encoding: of the table.

    Raises:
        UserError: the table cannot be read, or holds no text.
    """
    terms = load_terminology(own)
    tables = load_tables(terms)
    findings = finding_names(tables, terms)
    remarks = [*remark_names(tables), *MARKS]
    examples = read_examples(path, findings=findings, remarks=remarks, encoding=encoding)
    if not examples:
        raise UserError(f"{path}: holds no text; add rows with text and labels")
    answers = answers_of(examples, ReportLabeller(tables), findings=findings)
    return answers, [_tasks(answers), _findings(answers, findings), _kinds(answers)]


def mistakes_of(answers: Sequence[Answer]) -> Iterator[str]:
    """A line for each text with a mistake."""
    for answer in answers:
        if not answer.is_right:
            missed = sorted(" ".join(filter(None, value)) for value in answer.expected - answer.found)
            wrong = sorted(" ".join(filter(None, value)) for value in answer.found - answer.expected)
            yield f"{answer.example.text}  missed: {', '.join(missed) or '-'}  wrong: {', '.join(wrong) or '-'}"


def _tasks(answers: Sequence[Answer]) -> Table:
    """F1 by task and language."""
    rows: list[list[Cell]] = []
    for task in TASKS:
        total, bounds = score(answers, task=task), interval(answers, task=task)
        by_language = [
            in_format(score([one for one in answers if one.example.language == language], task=task).f1, ".3f")
            for language in LANGUAGES
        ]
        rows.append([task, total.support, with_interval(total.f1, bounds.low, bounds.high), *by_language])
    note = f"{len(answers)} texts, all findings together. The bootstrap interval resamples texts."
    return Table("F1", ["task", "expected", "F1 [95 %]", *LANGUAGES], rows, note)


def _findings(answers: Sequence[Answer], findings: Sequence[str]) -> Table:
    rows: list[list[Cell]] = []
    for finding in findings:
        scores = {task: score(answers, task=task, finding=finding) for task in FINDING_TASKS}
        if scores["mention"].f1 is not None:
            cells = [in_format(one.f1, ".2f") for one in scores.values()]
            rows.append([finding, scores["mention"].support, *cells])
    return Table("F1 by finding", ["finding", "expected", *FINDING_TASKS], rows, "A dash: expected and found nowhere.")


def _kinds(answers: Sequence[Answer]) -> Table:
    """Texts of each kind, and those without any mistake."""
    kinds = dict.fromkeys(answer.example.kind for answer in answers)
    rows: list[list[Cell]] = []
    for kind in kinds:
        own = [answer for answer in answers if answer.example.kind == kind]
        right = sum(answer.is_right for answer in own)
        rows.append([kind or "(no kind)", len(own), right, f"{right / len(own):.0%}"])
    right = sum(answer.is_right for answer in answers)
    rows.append(["all", len(answers), right, f"{right / len(answers):.0%}"])
    return Table("Texts without any mistake", ["kind", "texts", "right", "share"], rows)

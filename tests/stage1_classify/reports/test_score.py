"""Cells of expected labels, and F1 by hand."""

from pathlib import Path

import pytest

from cxr.config import UserError
from stage1_classify.reports.labeller import ReportLabeller
from stage1_classify.reports.score import Answer, Example, Expected, Score, interval, parse_labels, score
from stage1_classify.reports.score_tables import mistakes_of, score_file
from stage1_classify.score_reports import main, parse

NAMES = ["Edema", "Pneumothorax"]


def test_an_empty_cell_says_nothing() -> None:
    assert parse_labels(" ", findings=NAMES, remarks=[]) == Expected({}, {}, frozenset())


def test_a_cell_with_labels_places_and_remarks() -> None:
    read = parse_labels("Edema=-1[B, - lower]; Pneumothorax=0; known", findings=NAMES, remarks=["known"])
    places = {"Edema": frozenset({("B", ""), ("", "lower")})}
    assert read == Expected({"Edema": -1, "Pneumothorax": 0}, places, frozenset({"known"}))


@pytest.mark.parametrize("cell", ["Edma=1", "Edema=2", "Edema", "known=1", "Edema=1[X]", "Edema=1[L top]", "Edema=1[L"])
def test_a_cell_that_cannot_be_read(cell: str) -> None:
    with pytest.raises(ValueError, match=r"cannot read|unknown place"):
        parse_labels(cell, findings=NAMES, remarks=["known"])


def answer(expected: set[tuple[str, str, str]], found: set[tuple[str, str, str]]) -> Answer:
    example = Example("", None, "", Expected({}, {}, frozenset()))
    return Answer(example, frozenset(expected), frozenset(found))


ANSWERS = [
    answer({("Edema", "mention", ""), ("Edema", "side", "L")}, {("Edema", "mention", ""), ("Edema", "side", "R")}),
    answer({("Mass", "mention", "")}, set()),
    answer(set(), {("Edema", "mention", "")}),
    answer({("Edema", "mention", "")}, {("Edema", "mention", "")}),
]


def test_counts_by_hand() -> None:
    assert score([], task="mention") == Score(0, 0, 0)
    assert score(ANSWERS, task="mention") == Score(2, 1, 1)
    assert score(ANSWERS, task="mention", finding="Edema") == Score(2, 0, 1)
    assert score(ANSWERS, task="side") == Score(0, 1, 1)
    assert score(ANSWERS, task="mention").f1 == pytest.approx(2 / 3)
    assert score(ANSWERS, task="side").f1 == 0
    assert score(ANSWERS, task="zone").f1 is None


def test_the_interval_contains_the_figure() -> None:
    bounds = interval(ANSWERS, task="mention")
    assert bounds.low <= 2 / 3 <= bounds.high
    sure = interval([ANSWERS[3]] * 5, task="mention")
    assert (sure.low, sure.high) == (1, 1)


def test_a_table_of_sentences(tmp_path: Path, label: ReportLabeller) -> None:
    path = tmp_path / "s.csv"
    path.write_text("text,labels\nNo left edema.,Edema=0\nThe mass.,Edema=1[L]\n", encoding="utf-8")
    answers, tables = score_file(path)
    assert [one.is_right for one in answers] == [True, False]
    assert len(list(mistakes_of(answers))) == 1
    assert tables[0].rows[0][:2] == ["mention", 2]
    assert tables[2].rows[-1] == ["all", 2, 1, "50%"]


def test_a_table_in_another_encoding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.csv"
    path.write_text("text,labels\nŒdème pulmonaire.,Edema=1\n", encoding="cp1252")
    main(parse([str(path), "--encoding", "cp1252"]))
    assert "edema" in capsys.readouterr().out.lower()
    with pytest.raises(UserError, match="--encoding cp1252"):
        main(parse([str(path)]))


@pytest.mark.parametrize("text", ["text,labels\n", "text,labels\nx,Edma=1\n", "text,labels,language\nx,,de\n", "a,b\n"])
def test_mistakes_in_a_table_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"s\.csv"):
        score_file(path)

"""The user's table of reports: shared ids, carried columns, languages, mistakes."""

import logging
from pathlib import Path

import pytest

from cxr.config import UserError
from stage1_classify.reports.characters import has_wrong_letters
from stage1_classify.reports.report_table import Report, column_names, read_reports


def table(folder: Path, text: str) -> Path:
    path = folder / "r.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_no_rows(tmp_path: Path) -> None:
    read = read_reports(table(tmp_path, "report_id,report\n"), reserved=[])
    assert read.reports == ()
    assert list(read.rows.columns) == ["report_id"]


def test_rows_of_one_report_share_it(tmp_path: Path) -> None:
    text = 'image;report_id;report;language\n1.png; a ;"No\neffusion";EN\n2.png;a;"No\neffusion";en\n3.png;b;Rien;\n'
    read = read_reports(table(tmp_path, text), reserved=["Edema"])
    assert read.reports == (Report("a", "No\neffusion", "en"), Report("b", "Rien", None))
    assert read.rows.to_numpy().tolist() == [["a", "1.png"], ["a", "2.png"], ["b", "3.png"]]
    assert list(read.rows.columns) == ["report_id", "image"]
    assert read_reports(table(tmp_path, text), reserved=[], language="fr").reports[1].language == "fr"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,report\n1,x\n", ["report_id"]),
        ("report_id,text\n1,x\n", ["report"]),
        ("report_id,report\n,x\n", ["blank"]),
        ("report_id,report\n1,x\n1,y\n", ["'1'", "several"]),
        ("report_id,report,language\n1,x,en\n1,x,fr\n", ["'1'", "several"]),
        ("report_id,report,language\n1,x,de\n", ["'de'", "en, fr"]),
        ("report_id,report,Edema\n1,x,1\n", ["'Edema'"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        read_reports(table(tmp_path, text), reserved=["Edema"])
    (problem,) = caught.value.problems
    assert all(word in problem for word in words)


def test_invisible_characters_are_not_part_of_a_report(tmp_path: Path) -> None:
    read = read_reports(table(tmp_path, "report_id,report\n1,\u200bNo effu\u00adsion\x07\n"), reserved=[])
    assert read.reports == (Report("1", "No effusion ", None),)


def test_letters_of_another_encoding_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = table(tmp_path, "report_id,report\na,Cœur normal à gauche\nb,Ã\u00a9panchement\nc,Cardiom\u201agalie\n")
    with caplog.at_level(logging.WARNING, logger="raybox"):
        read_reports(path, reserved=[])
    (line,) = caplog.messages
    assert "2 reports" in line and "'b'" in line and "panchement" not in line
    assert not has_wrong_letters("Épanchement, NÃO, 90 ‰")


def test_columns_of_other_names(tmp_path: Path) -> None:
    columns = column_names(["report_id=N\u00b0 CR", "report=Texte=libre"])
    assert columns == {"report_id": "N\u00b0 CR", "report": "Texte=libre"}
    path = table(tmp_path, "Fichier;N\u00b0 CR;Texte=libre\na.png;7;Rien\n")
    read = read_reports(path, reserved=[], columns=columns)
    assert read.reports == (Report("7", "Rien", None),)
    assert read.rows.to_dict("list") == {"report_id": ["7"], "Fichier": ["a.png"]}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["report"], ["report", "NAME=COLUMN"]),
        (["report="], ["NAME=COLUMN"]),
        (["texte=report"], ["texte", "report_id, report, language"]),
        (["report=a", "report=b"], ["report", "twice"]),
        (["report=a", "report_id=a"], ["a", "twice"]),
    ],
)
def test_columns_that_cannot_be_named(given: list[str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        column_names(given)
    (problem,) = caught.value.problems
    assert all(word in problem for word in words)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, ["'report_id'", "'report'", "id, report text", "--columns"]),
        ({"report_id": "id", "report": "text"}, ["'text'", "--columns"]),
        ({"report_id": "id", "report": "report text", "language": "langue"}, ["'langue'"]),
    ],
)
def test_missing_columns(tmp_path: Path, columns: dict[str, str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        read_reports(table(tmp_path, "id,report text\n1,x\n"), reserved=[], columns=columns)
    assert all(word in caught.value.problems[0] for word in words)


def test_a_column_with_our_name_beside_the_named_one(tmp_path: Path) -> None:
    path = table(tmp_path, "report_id,report,texte\n1,x,y\n")
    with pytest.raises(UserError, match="'report' next to 'texte'"):
        read_reports(path, reserved=[], columns={"report": "texte"})


def test_reports_in_rtf_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "report_id,report\n1,No effusion.\n2,{\\rtf1 No effusion.}\n3,{\\rtf1 Normal.}\n")
    with pytest.raises(UserError) as caught:
        read_reports(path, reserved=[])
    (problem,) = caught.value.problems
    assert "2 reports in RTF" in problem and "'2'" in problem

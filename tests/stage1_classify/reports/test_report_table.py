"""The user's table of reports: shared ids, carried columns, languages, mistakes."""

from pathlib import Path

import pytest

from cxr.config import UserError
from stage1_classify.reports.report_table import Report, read_reports


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

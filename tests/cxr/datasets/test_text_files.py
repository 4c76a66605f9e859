"""The one reader of tables: text as it stands, or one clear error."""

import os
from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.datasets.text_files import read_names, read_text_table


def table(folder: Path, content: str | bytes) -> Path:
    path = folder / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    read = read_text_table(table(tmp_path, "a,b\n"))
    assert read.shape == (0, 2)
    assert list(read.columns) == ["a", "b"]


SOUND = {
    "plain": ("a,b\n1,x\n2,\n", [["1", "x"], ["2", ""]]),
    "words for nothing": ("a,b\nN/A,nan\nNULL,None\n", [["N/A", "nan"], ["NULL", "None"]]),
    "byte order mark": (b"\xef\xbb\xbfa,b\n1,2\n", [["1", "2"]]),
    "blank rows below": ("a;b\n1;x\n;\n ; \n;y\n", [["1", "x"], ["", "y"]]),
    "semicolons": ("a;b\n1,5;x\n2;\n", [["1,5", "x"], ["2", ""]]),
    "tabs": ("a\tb\n1,5\tx;y\n", [["1,5", "x;y"]]),
    "quotes": ('a,b\n"1,5","say ""no"""\n', [["1,5", 'say "no"']]),
    "line in a cell": ('a,b\n"1\n2",3\n4,5\n', [["1\n2", "3"], ["4", "5"]]),
    "windows": ("a,b\r\n1,2\r\n3,4\r\n", [["1", "2"], ["3", "4"]]),
    "no last line end": ("a,b\n1,2", [["1", "2"]]),
    "empty lines": ("a,b\n\n1,2\n\n\n3,4\n\n", [["1", "2"], ["3", "4"]]),
    "blank cells": ("a,b\n,2\n1,\n", [["", "2"], ["1", ""]]),
    "formulas written as texts": ("a,b\n'-x,\"'@1,2\"\n'a,'\n", [["-x", "@1,2"], ["'a", "'"]]),
    "first line of Excel": ("sep=;\r\na;b\r\n1,5;x\r\n", [["1,5", "x"]]),
    "first line of Excel, as a cell": ('\ufeff"sep=|"\na|b\n1;2|x,y\n', [["1;2", "x,y"]]),
    "leading zeros": ("a,b\n007,1e3\n", [["007", "1e3"]]),
}


@pytest.mark.parametrize("case", SOUND)
def test_cells_stay_as_they_are(tmp_path: Path, case: str) -> None:
    content, cells = SOUND[case]
    read = read_text_table(table(tmp_path, content), required=["a", "b"])
    assert list(read.columns) == ["a", "b"]
    assert read.to_numpy().tolist() == cells


def test_cells_of_columns_without_a_name_may_be_missing(tmp_path: Path) -> None:
    read = read_text_table(table(tmp_path, "a,b,,\n1,2\n3,4,5\n6,7,8,9\n"))
    assert list(read.columns) == ["a", "b", "Unnamed: 2", "Unnamed: 3"]
    assert read.to_numpy().tolist() == [["1", "2", "", ""], ["3", "4", "5", ""], ["6", "7", "8", "9"]]


BROKEN = {
    "empty": ("", "no header"),
    "blank lines": ("\n\n", "no header"),
    "blank header": (",,\n1,2,3\n", "no header"),
    "short row": ("a,b,c\n1,2,3\n1,2\n", "line 3 has 2 cells"),
    "short row after lines in a cell": ('a,b\n"1\n2",3\n4\n', "line 4 has 1 cells"),
    "long row": ("a,b\n1,2,3\n", "line 2 has 3 cells"),
    "all rows longer": ("a,b\n1,2,3\n4,5,6\n", "line 2 has 3 cells, line 3 has 3 cells"),
    "cut in a row": ("a,b,c\n1,2,3\n4,", "line 3 has 2 cells"),
    "cut in a cell": ('a,b\n1,"2\n3,4\n', "not a CSV"),
    "text after a quote": ('a,b\n"1"x,2\n', "not a CSV"),
    "two columns of one name": ("a,b,a\n1,2,3\n", "two columns 'a'"),
    "one that begins long before": ('a,b\n1,2\n3,"4\n5,6\n' + "7,8\n" * 40_000, "begins in line 3"),
    "name with a space": ("a,b \n1,2\n", "'b' (nearest: 'b ')"),
    "name that cannot be seen": ("a,\u00a0b\n1,2\n", "it has a, '\\xa0b'"),
    "line in a name": ('a,"b\nc"\n1,2\n', "it has a, 'b\\nc'"),
    "other delimiter": ("a|b\n1|2\n", "semicolon or tab"),
    "title above the header": ("Export\na,b\n1,2\n", "no column 'a', 'b'"),
    "missing column": ("a,c\n1,2\n", "no column 'b'"),
    "bytes of value 0": (b"a,b\n1,\0\n", "bytes of value 0"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), "UTF-8"),
    "Latin-1": ("a,b\nMüller,2\n".encode("latin-1"), "UTF-8"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0", "UTF-8"),
    "huge cell": ("a,b\n1," + "x" * 200_000 + "\n", "not a CSV"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_one_clear_line(tmp_path: Path, case: str) -> None:
    content, reason = BROKEN[case]
    with pytest.raises(UserError, match=r"t\.csv") as caught:
        read_text_table(table(tmp_path, content), required=["a", "b"])
    (problem,) = caught.value.problems
    assert reason in problem
    assert "\0" not in problem


def test_an_encoding_that_does_not_fit_is_told(tmp_path: Path) -> None:
    path = table(tmp_path, "a,b\nMüller,2\n")
    assert read_text_table(path, encoding="utf-8-sig")["a"].tolist() == ["Müller"]
    with pytest.raises(UserError, match="is text in UTF-8, not in cp1252"):
        read_text_table(path, encoding="cp1252")
    with pytest.raises(UserError, match="unknown encoding 'base64'"):
        read_text_table(path, encoding="base64")
    with pytest.raises(UserError, match=r"not text in ascii, see row 2"):
        read_text_table(table(tmp_path, "a,b\nM\u00fcller,2\n".encode("latin-1")), encoding="ascii")


def test_many_wrong_lines_are_counted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 21 has 1 cells and 10 more"):
        read_text_table(table(tmp_path, "a,b\n" + "1\n" * 30))


def test_missing_files_folders_and_pipes_are_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "gone.csv", tmp_path, tmp_path / "pipe", tmp_path / "nul\0"):
        with pytest.raises(UserError, match="data: "):
            read_text_table(path)
        with pytest.raises(UserError, match="data: "):
            read_names(path)


def test_a_list_that_begins_with_a_mark_keeps_its_first_name(tmp_path: Path) -> None:
    assert read_names(table(tmp_path, b"\xef\xbb\xbfa.png\r\nb.png\n")) == ["a.png", "b.png"]
    assert read_names(table(tmp_path, b"")) == []


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_table_in_utf16_is_called_so(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(UserError, match="in UTF-16"):
        read_text_table(table(tmp_path, "\ufeffa,b\n1,2\n".encode(encoding)))

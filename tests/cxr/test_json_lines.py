"""Files of JSON lines: what an interruption leaves is removed, and what nobody can read is named."""

from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.json_lines import JsonLines, WholeLines
from cxr.own_json import Shape


class Line(Shape):
    a: int


def test_no_line(tmp_path: Path) -> None:
    assert list(JsonLines(tmp_path / "a.jsonl", Line)) == []
    assert list(WholeLines([], Line)) == []


def test_an_incomplete_last_line_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a"')
    lines = JsonLines(path, Line)
    lines.append({"a": 2})
    assert list(lines) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("damaged", [b"garbage", b"", b"\0\0", b"\xff\xfe", b"null", b"[1]", b"[" * 100_000])
def test_a_damaged_line_is_named(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + damaged + b'\n{"a": 2}\n')
    with pytest.raises(UserError, match=r"a\.jsonl: line 2 is damaged"):
        list(WholeLines([path], Line))

import os
from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.input_files import MAX_BYTES, open_regular, read_json, read_regular, read_text


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert read_regular(tmp_path / "a") == b""


def test_bytes_and_text_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf[1, 2]")
    assert read_regular(tmp_path / "a") == b"\xef\xbb\xbf[1, 2]"
    assert read_text(tmp_path / "a", what="list", advice="") == "[1, 2]"
    assert read_json(tmp_path / "a", what="list", advice="") == [1, 2]


def test_what_never_ends_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", MAX_BYTES + 1)
    for path in (tmp_path / "pipe", tmp_path / "zero", tmp_path / "large", tmp_path, Path("/dev/tty")):
        with pytest.raises(UserError, match=str(path)):
            open_regular(path)


@pytest.mark.parametrize("name", ["gone", "nul\0", "long" * 100, "a/b", "loop"])
def test_names_that_cannot_be_opened_are_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError) as caught:
        open_regular(tmp_path / name, what="table", advice="look again")
    (problem,) = caught.value.problems
    assert problem.startswith("table: ")
    assert problem.endswith("look again")
    assert "\0" not in problem


def test_a_key_twice_in_an_object_of_json(tmp_path: Path) -> None:
    """Equal values are one; of two others JSON itself would take the last."""
    (tmp_path / "a.json").write_text('{"a": [1], "b": {"c": 2}, "a": [1]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json", what="COCO", advice="") == {"a": [1], "b": {"c": 2}}
    (tmp_path / "a.json").write_text('[{"b": {"c": 2, "c": 3}}]', encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.json .*'c' has two values"):
        read_json(tmp_path / "a.json", what="COCO", advice="")


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 200_000, b"1" * 5000, b"\xff\xfe[\0]\0"])
def test_what_is_not_json_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json"):
        read_json(tmp_path / "a.json", what="COCO", advice="give a COCO file")

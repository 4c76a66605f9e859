import os
from pathlib import Path

from cxr.datasets.same_content import same_content


def test_no_files() -> None:
    assert same_content(Path(), []) == {}


def test_copies_are_found_and_files_that_differ_anywhere_are_not(tmp_path: Path) -> None:
    whole = bytes(range(256)) * 64
    contents = {
        "a": whole,
        "b": b"x" + whole[1:],
        "c": whole[:-1] + b"x",
        "d": whole[:8000] + b"x" + whole[8001:],
        "e": whole,
        "f": whole[1:],
        "g": whole,
        "h": whole[:8000] + b"x" + whole[8001:],
        "i": b"",
        "j": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "pipe")
    paths = [*contents, "link", "pipe", "gone", "nul\0"]
    assert same_content(tmp_path, paths) == {"e": "a", "g": "a", "h": "d", "j": "i", "link": "a"}

"""No path of a table leads out of the data set's folder."""

from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.datasets.inside_root import inside, leave_by_link, leaves, normal_path


@pytest.mark.parametrize(
    ("path", "short", "is_outside"),
    [
        ("", "", False),
        ("a.png", "a.png", False),
        ("./a.png", "a.png", False),
        ("x//a.png", "x/a.png", False),
        ("x/./y/../a.png", "x/a.png", False),
        ("..a/b.png", "..a/b.png", False),
        ("../a.png", "../a.png", True),
        ("x/../../a.png", "../a.png", True),
        ("..", "..", True),
        ("/etc/passwd", "/etc/passwd", True),
        ("//a.png", "//a.png", True),
    ],
)
def test_spelling(path: str, short: str, is_outside: bool) -> None:
    assert normal_path(path) == short
    assert leaves(path) is is_outside


def test_links_out_of_the_folder(tmp_path: Path) -> None:
    root, other = tmp_path / "data", tmp_path / "database"
    for folder in (root / "in", other):
        folder.mkdir(parents=True)
        (folder / "a.png").touch()
    (root / "file.png").symlink_to(other / "a.png")
    (root / "folder").symlink_to(other)
    (root / "up").symlink_to("..")
    (root / "within.png").symlink_to("in/a.png")
    (root / "loop.png").symlink_to("loop.png")
    paths = ["in/a.png", "within.png", "gone.png", "file.png", "folder/a.png", "up/database/a.png"]
    assert leave_by_link(root, []).tolist() == []
    assert leave_by_link(root, paths).tolist() == [False, False, False, True, True, True]
    (tmp_path / "link").symlink_to(root)  # the folder that the user gives may be a link itself
    assert leave_by_link(tmp_path / "link", paths).tolist() == [False, False, False, True, True, True]


def test_very_deep_paths_are_looked_up(tmp_path: Path) -> None:
    assert leave_by_link(tmp_path, ["a/" * 2000 + "a.png"]).tolist() == [False]


@pytest.mark.parametrize("name", ["a\0.png", "a\ud800.png"])
@pytest.mark.parametrize("folder", ["", "a/", "a/" * 200])
def test_names_that_no_file_can_have_lead_nowhere(tmp_path: Path, name: str, folder: str) -> None:
    assert leave_by_link(tmp_path, [folder + name]).tolist() == [False]


def test_a_setting_stays_below_the_root(tmp_path: Path) -> None:
    assert inside(tmp_path, Path("x/t.csv"), key="data.table") == tmp_path / "x/t.csv"
    (tmp_path / "t.csv").symlink_to("/etc/hostname")
    assert inside(tmp_path, Path("/else/t.csv"), key="data.table") == Path("/else/t.csv")
    for path in ("../t.csv", "x/../../t.csv", "t.csv"):
        with pytest.raises(UserError, match=r"data\.table"):
            inside(tmp_path, Path(path), key="data.table")

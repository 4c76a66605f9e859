"""Which files exist, which one of a stem wins, and what the log tells."""

from pathlib import Path

import pytest

from cxr.datasets.files_on_disk import files_exist, find_images, with_other_spelling
from tests.builders import write_picture


def test_no_folder_and_no_image(tmp_path: Path) -> None:
    assert find_images(tmp_path / "gone") == {}
    (tmp_path / "a.txt").touch()
    assert find_images(tmp_path) == {}


def test_an_image_in_several_folders_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A PNG comes before a DICOM file, then the first folder; beside each other they are one image in two formats."""
    for name in ("a/x.png", "b/x.png", "b/y.png", "c/z.png"):
        write_picture(tmp_path / name)
    (tmp_path / "a" / "y.dcm").touch()
    (tmp_path / "c" / "z.dcm").touch()
    assert find_images(tmp_path) == {"x": "a/x.png", "y": "b/y.png", "z": "c/z.png"}
    (line,) = caplog.messages
    assert "2 names" in line
    assert "a/x.png and b/x.png" in line


def test_no_paths(tmp_path: Path) -> None:
    assert files_exist(tmp_path, []).tolist() == []


def test_paths_that_exist_and_names_that_no_file_can_have(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    paths = ["in/a.png", "in/b.png", "in/a.png/b", "a\0.png", "a\ud800.png", "x" * 300]
    assert files_exist(tmp_path, paths).tolist() == [True, False, False, False, False, False]


@pytest.mark.parametrize(
    ("listed", "stored"), [("poign\u00e9e.png", "poigne\u0301e.png"), ("e\u0301.png", "\u00e9.png")]
)
def test_a_missing_file_with_its_accents_in_another_form_is_named(tmp_path: Path, listed: str, stored: str) -> None:
    assert with_other_spelling(tmp_path, listed) == listed
    (tmp_path / stored).touch()
    assert with_other_spelling(tmp_path, listed).startswith(f"{listed} (")

"""Listing radiographs: files and folders, unique ids, and where results go."""

import shutil
from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.imaging.listing import default_out, find_images, fingerprint, refuse_inside
from tests.builders import write_picture


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two pictures of one name in two folders, a DICOM without ending, and what is no image."""
    folder = tmp_path / "scans"
    for name in ("a/x.png", "b/x.png", "b/made.dicom"):
        write_picture(folder / name)
    (folder / "b" / "made.dicom").rename(folder / "b" / "1.2.840.113")
    (folder / "a" / "notes.txt").write_text("no image")
    (folder / "a" / ".x.png").write_bytes(b"")
    return folder


def test_folder_without_an_image_and_missing_path_are_reported_together(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("")
    with pytest.raises(UserError) as caught:
        find_images([tmp_path / "empty", tmp_path / "gone.png"])
    assert caught.value.problems == [
        f"images: no PNG, JPEG or DICOM file in {tmp_path / 'empty'} or below (1 other files); give another folder",
        f"images: no file or folder {tmp_path / 'gone.png'}; check the path",
    ]


def test_listing_names_each_file_once(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_images([scans, scans / "a" / "x.png"])
    assert [file.image_id for file in found.files] == ["a/x", "b/1.2.840.113", "b/x"]
    assert [file.file_name for file in found.files] == ["a/x.png", "b/1.2.840.113", "b/x.png"]
    assert (found.num_other, len(found.first_others)) == (2, 2) and found.root == str(scans)
    monkeypatch.chdir(scans)
    assert find_images([Path("a"), Path("b")]).root == "."
    assert find_images([Path("a/x.png")]).files[0].image_id == "x"


def test_files_that_differ_in_the_ending_alone_keep_it(scans: Path) -> None:
    shutil.copyfile(scans / "b" / "1.2.840.113", scans / "a" / "x.dcm")
    assert [f.image_id for f in find_images([scans / "a"]).files] == ["x.dcm", "x.png"]


def test_links_in_a_circle_end(scans: Path) -> None:
    (scans / "a" / "again").symlink_to(scans, target_is_directory=True)
    assert len(find_images([scans]).files) == 3


def test_a_changed_file_changes_the_fingerprint(scans: Path) -> None:
    before = fingerprint(find_images([scans]))
    assert fingerprint(find_images([scans])) == before
    write_picture(scans / "a" / "x.png", (50, 70))
    assert fingerprint(find_images([scans])) != before


def test_default_folder_is_next_to_the_run() -> None:
    assert default_out(Path("runs/p/stage3"), [Path("x/scan.png")]) == Path("runs/p/predictions/scan")


@pytest.mark.parametrize("inside", ["scans", "scans/new", "scans/a"])
def test_results_do_not_go_among_the_images(scans: Path, inside: str) -> None:
    with pytest.raises(UserError, match=f"--out .*{inside}"):
        refuse_inside(scans.parent / inside, [scans])
    refuse_inside(scans / "a", [scans / "b" / "x.png"])

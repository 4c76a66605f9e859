"""Which file belongs to a corrected image."""

from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.runs.provenance import sha256_of
from stage3_detect.labels.corrected_images import find_files
from stage3_detect.serving.corrections.record import SavedReading
from tests.builders import write_picture
from tests.stage3_detect.serving.corrections.correction_builders import IMAGE, OTHER_IMAGE, saved

HW = (40, 60)


def picture(path: Path, size_hw: tuple[int, int] = HW) -> str:
    write_picture(path, size_hw)
    return sha256_of(path)


def wanted(image: str, name: str = "chest.png") -> dict[str, SavedReading]:
    return {image: saved(image_sha256=image, name=name, width_px=HW[1], height_px=HW[0])}


def test_nothing_to_find(tmp_path: Path) -> None:
    found = find_files({}, tmp_path / "images", None)
    assert (found.files, found.by_name, found.problems) == ({}, set(), {})
    found = find_files(wanted(IMAGE), tmp_path / "images", None)
    assert found.files == {} and list(found.problems) == [IMAGE]
    with pytest.raises(UserError, match="no file or folder"):
        find_files(wanted(IMAGE), tmp_path / "images", tmp_path / "nowhere")


def test_the_hash_decides_wherever_the_file_is_and_whatever_its_name(tmp_path: Path) -> None:
    image = picture(tmp_path / "xrays/2026/renamed.png")
    picture(tmp_path / "xrays/chest.png")  # another image with the name
    found = find_files(wanted(image), tmp_path / "images", tmp_path / "xrays")
    assert found.files == {image: tmp_path / "xrays/2026/renamed.png"} and not found.by_name


def test_images_that_the_service_kept_need_no_folder(tmp_path: Path) -> None:
    image = picture(tmp_path / "new.png")
    stored = tmp_path / "images" / f"{image}.png"
    stored.parent.mkdir()
    (tmp_path / "new.png").rename(stored)
    assert find_files(wanted(image), tmp_path / "images", None).files == {image: stored}


def test_without_its_hash_the_one_file_with_its_name_and_size_counts(tmp_path: Path) -> None:
    picture(tmp_path / "xrays/a/chest.png")
    found = find_files(wanted(IMAGE), tmp_path / "images", tmp_path / "xrays")
    assert found.files == {IMAGE: tmp_path / "xrays/a/chest.png"} and found.by_name == {IMAGE}
    picture(tmp_path / "xrays/b/chest.png")
    found = find_files(wanted(IMAGE), tmp_path / "images", tmp_path / "xrays")
    assert found.files == {} and found.problems == {IMAGE: "2 files with its name"}
    found = find_files(wanted(IMAGE, "b/chest.png"), tmp_path / "images", tmp_path / "xrays")
    assert found.files == {IMAGE: tmp_path / "xrays/b/chest.png"}


def test_a_file_of_another_size_is_no_match(tmp_path: Path) -> None:
    picture(tmp_path / "xrays/chest.png", (60, 40))
    found = find_files(wanted(IMAGE), tmp_path / "images", tmp_path / "xrays")
    assert found.files == {} and not found.by_name
    assert "(60, 40)" in found.problems[IMAGE] and "(40, 60)" in found.problems[IMAGE]


def test_each_image_gets_its_own_file(tmp_path: Path) -> None:
    image = picture(tmp_path / "xrays/chest.png")
    both = wanted(image) | wanted(OTHER_IMAGE, "gone.png")
    found = find_files(both, tmp_path / "images", tmp_path / "xrays")
    assert found.files == {image: tmp_path / "xrays/chest.png"} and list(found.problems) == [OTHER_IMAGE]

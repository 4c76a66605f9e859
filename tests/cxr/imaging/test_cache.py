"""The cache of decoded pictures: what it finds again, what it survives, who may write."""

import fcntl
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr.config import UserError
from cxr.imaging.cache_files import Index
from cxr.imaging.pictures import Pictures, cache_folder
from cxr.imaging.settings import InputSettings
from cxr.tables import Dataset, empty_boxes, image_table
from tests.disks import files_of_at_most

SIZE_HW = (24, 40)
SLOT_BYTES = 24 * 40


def make_images(root: Path, *, count: int, size_hw: tuple[int, int] = (48, 60)) -> None:
    """PNGs of noise, i000.png and so on, no two alike."""
    root.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for number in range(count):
        pixels = generator.integers(0, 256, size_hw, dtype=np.uint8)
        assert cv2.imwrite(str(root / f"i{number:03d}.png"), pixels)


def images_of(root: Path, *, region: str = "full") -> Dataset:
    """All the PNGs of a folder."""
    names = sorted(path.name for path in root.glob("*.png"))
    ids = [name.removesuffix(".png") for name in names]
    labels = pd.DataFrame({"Edema": 0.0}, index=pd.Index(ids, name="image_id"))
    images = image_table(image_id=ids, path=names, region=region)
    return Dataset("test", root, images, labels, empty_boxes())


def settings_of(cache_dir: Path | None, **changes: object) -> InputSettings:
    return InputSettings.model_validate({"size_hw": SIZE_HW, "cache_dir": cache_dir, **changes})


def index_lines(cache_dir: Path) -> list[bytes]:
    path = cache_folder(settings_of(cache_dir)) / "index.txt"
    return path.read_bytes().splitlines(keepends=True) if path.is_file() else []


def assert_as_decoded(pictures: Pictures, root: Path) -> None:
    """Every picture is what decoding gives."""
    fresh = Pictures(images_of(root), settings_of(None))
    assert len(pictures) == len(fresh)
    for index in range(len(fresh)):
        np.testing.assert_array_equal(pictures[index], fresh[index])


def test_no_images_need_no_cache(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    assert len(Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))) == 0
    assert not (tmp_path / "cache").exists()


def test_pictures_are_decoded_once_and_mapped(tmp_path: Path) -> None:
    make_images(tmp_path / "images", count=5)
    first = Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
    assert_as_decoded(first, tmp_path / "images")
    assert not first[0].flags.writeable
    assert not first[0].flags.owndata  # a view of the file, not a copy
    before = index_lines(tmp_path / "cache")
    assert len(before) == 5
    assert_as_decoded(Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache")), tmp_path / "images")
    assert index_lines(tmp_path / "cache") == before
    assert (cache_folder(settings_of(tmp_path / "cache")) / "pictures.bin").stat().st_size == 5 * SLOT_BYTES


def test_a_finished_cache_is_read_without_writing(tmp_path: Path) -> None:
    """A folder that somebody else filled may be read-only: nothing is locked or opened for writing."""
    make_images(tmp_path / "images", count=2)
    Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
    folder = cache_folder(settings_of(tmp_path / "cache"))
    (folder / "lock").unlink()
    assert_as_decoded(Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache")), tmp_path / "images")
    assert not (folder / "lock").exists()


def test_each_setting_that_shapes_pixels_has_its_own_pictures(tmp_path: Path) -> None:
    make_images(tmp_path / "images", count=1)
    changes: list[dict[str, object]] = [
        {},
        {"size_hw": (40, 24)},
        {"keep_aspect": True},
        {"clahe_clip": 2.0},
        {"clahe_clip": 40.0},
        {"channels": "clahe3"},
    ]
    pictures = [
        Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache", **change))[0].tobytes()
        for change in changes
    ]
    assert len(set(pictures)) == len(changes)
    assert len(list((tmp_path / "cache").iterdir())) == len(changes)
    Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache", mean=[0.1], std=[0.2]))
    assert len(list((tmp_path / "cache").iterdir())) == len(changes)  # normalising comes after


def test_regions_of_one_file_are_pictures_of_their_own(tmp_path: Path) -> None:
    make_images(tmp_path / "images", count=1)
    left, right = (
        Pictures(images_of(tmp_path / "images", region=region), settings_of(tmp_path / "cache"))[0].copy()
        for region in ("left", "right_mirrored")
    )
    assert (left != right).any()
    assert len(index_lines(tmp_path / "cache")) == 2


def test_moved_and_copied_files_are_found_by_their_content(tmp_path: Path) -> None:
    make_images(tmp_path / "images", count=3)
    Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
    (tmp_path / "images").rename(tmp_path / "moved")
    (tmp_path / "moved" / "i003.png").write_bytes((tmp_path / "moved" / "i001.png").read_bytes())
    moved = Pictures(images_of(tmp_path / "moved"), settings_of(tmp_path / "cache"))
    assert_as_decoded(moved, tmp_path / "moved")
    assert (cache_folder(settings_of(tmp_path / "cache")) / "pictures.bin").stat().st_size == 3 * SLOT_BYTES


def test_a_changed_file_is_decoded_again(tmp_path: Path) -> None:
    make_images(tmp_path / "images", count=3)
    Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
    changed = np.random.default_rng(9).integers(0, 256, (48, 60), dtype=np.uint8)
    assert cv2.imwrite(str(tmp_path / "images" / "i001.png"), changed)
    assert_as_decoded(Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache")), tmp_path / "images")
    assert len(index_lines(tmp_path / "cache")) == 4


def test_files_count_as_unchanged_while_size_and_time_hold(tmp_path: Path) -> None:
    """No file is read when the cache has it: one of another content but the same size and time passes."""
    make_images(tmp_path / "images", count=1)
    path = tmp_path / "images" / "i000.png"
    before = Pictures(images_of(path.parent), settings_of(tmp_path / "cache"))[0].copy()
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    np.testing.assert_array_equal(Pictures(images_of(path.parent), settings_of(tmp_path / "cache"))[0], before)


@pytest.mark.parametrize("position", [0, 500, SLOT_BYTES - 1])
def test_a_damaged_picture_is_logged_and_repaired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, position: int
) -> None:
    make_images(tmp_path / "images", count=3)
    Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
    data = cache_folder(settings_of(tmp_path / "cache")) / "pictures.bin"
    content = bytearray(data.read_bytes())
    content[SLOT_BYTES + position] ^= 1
    data.write_bytes(content)
    pictures = Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
    with caplog.at_level(logging.WARNING, "raybox"):
        assert_as_decoded(pictures, tmp_path / "images")
    damaged = [record.message for record in caplog.records if "damaged" in record.message]
    assert len(damaged) == 1
    assert "image i00" in damaged[0]
    caplog.clear()
    again = Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
    assert_as_decoded(again, tmp_path / "images")
    assert not caplog.records


def test_a_slot_repaired_from_a_changed_file_no_longer_stands_for_the_old_file(tmp_path: Path) -> None:
    make_images(tmp_path / "images", count=1)
    path = tmp_path / "images" / "i000.png"
    old = path.read_bytes()
    pictures = Pictures(images_of(path.parent), settings_of(tmp_path / "cache"))
    data = cache_folder(settings_of(tmp_path / "cache")) / "pictures.bin"
    with data.open("r+b") as file:
        file.write(b"\0" * 10)
    assert cv2.imwrite(str(path), np.random.default_rng(9).integers(0, 256, (48, 60), dtype=np.uint8))
    assert_as_decoded(pictures, path.parent)
    path.write_bytes(old)
    assert_as_decoded(Pictures(images_of(path.parent), settings_of(tmp_path / "cache")), path.parent)


def test_an_index_torn_anywhere_loses_one_picture_at_most(tmp_path: Path) -> None:
    make_images(tmp_path / "images", count=3)
    Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
    index = cache_folder(settings_of(tmp_path / "cache")) / "index.txt"
    lines = index.read_bytes().splitlines(keepends=True)
    whole = b"".join(lines)
    for length in range(len(whole) - len(lines[-1]), len(whole)):
        index.write_bytes(whole[:length])
        pictures = Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
        assert index.read_bytes().splitlines(keepends=True)[:2] == lines[:2]
        assert len(index_lines(tmp_path / "cache")) == 3  # the half line is gone, the picture written again
        assert pictures[2].shape == SIZE_HW
    assert_as_decoded(pictures, tmp_path / "images")


def test_damaged_lines_are_counted_and_their_pictures_decoded_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_images(tmp_path / "images", count=3)
    Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
    index = cache_folder(settings_of(tmp_path / "cache")) / "index.txt"
    lines = index.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"full"', b'"fulm"')
    index.write_bytes(b"".join(lines) + b"\0" * 100_000)
    assert_as_decoded(Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache")), tmp_path / "images")
    assert any("1 damaged lines" in record.message for record in caplog.records)


@pytest.mark.parametrize("length", [0, 1, SLOT_BYTES, 2 * SLOT_BYTES + 7])
def test_a_shortened_data_file_is_filled_again(tmp_path: Path, length: int) -> None:
    make_images(tmp_path / "images", count=3)
    Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
    data = cache_folder(settings_of(tmp_path / "cache")) / "pictures.bin"
    os.truncate(data, length)
    for _ in range(2):
        assert_as_decoded(
            Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache")), tmp_path / "images"
        )
    assert data.stat().st_size == 3 * SLOT_BYTES


def test_an_unwritable_folder_is_an_error(tmp_path: Path) -> None:
    make_images(tmp_path / "images", count=1)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"input\.cache_dir: cannot write into .*set input\.cache_dir=null"):
        Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "file" / "cache"))


def test_a_full_disk_is_an_error_and_keeps_what_was_written(tmp_path: Path) -> None:
    make_images(tmp_path / "images", count=6, size_hw=(30, 40))
    refused = pytest.raises(UserError, match=r"cannot write into .*free some space.*cache_dir=null")
    with files_of_at_most(3 * SLOT_BYTES + SLOT_BYTES // 2), refused:
        Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
    assert len(index_lines(tmp_path / "cache")) == 3
    assert_as_decoded(Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache")), tmp_path / "images")
    assert len(index_lines(tmp_path / "cache")) == 6


# Other processes.


def fill(root: Path, cache_dir: Path) -> None:
    cv2.setNumThreads(0)  # OpenCV's threads do not survive a fork
    Pictures(images_of(root), settings_of(cache_dir))


def start_filling(root: Path, cache_dir: Path) -> BaseProcess:
    """A process that fills the cache."""
    process = multiprocessing.get_context("fork").Process(target=fill, args=(root, cache_dir))
    process.start()
    return process


def test_two_processes_decode_each_picture_once(tmp_path: Path) -> None:
    make_images(tmp_path / "images", count=40, size_hw=(300, 400))
    processes = [start_filling(tmp_path / "images", tmp_path / "cache") for _ in range(2)]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert len(index_lines(tmp_path / "cache")) == 40
    assert_as_decoded(Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache")), tmp_path / "images")


def test_a_second_process_waits_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_images(tmp_path / "images", count=2)
    folder = cache_folder(settings_of(tmp_path / "cache"))
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock, caplog.at_level(logging.INFO, "raybox"):
        fcntl.flock(lock, fcntl.LOCK_EX)
        filling = threading.Thread(
            target=Pictures, args=(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
        )
        filling.start()
        time.sleep(0.3)
        assert filling.is_alive()
        assert not index_lines(tmp_path / "cache")
        fcntl.flock(lock, fcntl.LOCK_UN)
        filling.join(timeout=30)
    assert any("waiting for another process" in record.message for record in caplog.records)
    assert len(index_lines(tmp_path / "cache")) == 2


@pytest.mark.parametrize("num_lines", [0, 1, 7, 23])
def test_a_killed_writer_loses_nothing_that_was_written(tmp_path: Path, num_lines: int) -> None:
    """SIGKILL once so many lines are there; the pictures that had lines are not decoded again."""
    make_images(tmp_path / "images", count=60, size_hw=(600, 800))
    process = start_filling(tmp_path / "images", tmp_path / "cache")
    while len(index_lines(tmp_path / "cache")) < num_lines:
        assert process.is_alive()
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    folder = cache_folder(settings_of(tmp_path / "cache"))
    kept = [line for line in index_lines(tmp_path / "cache") if line.endswith(b"\n")]
    assert num_lines <= len(kept) < 60
    known = len(Index.read(folder, SLOT_BYTES).by_file)
    assert known == len(kept)
    pictures = Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
    lines = index_lines(tmp_path / "cache")
    assert lines[: len(kept)] == kept
    assert len(lines) == 60
    assert (folder / "pictures.bin").stat().st_size == 60 * SLOT_BYTES  # the slot that had no line is used
    assert_as_decoded(pictures, tmp_path / "images")


def test_a_writer_killed_again_and_again_still_ends(tmp_path: Path) -> None:
    """At random moments, five times, into the same folder."""
    make_images(tmp_path / "images", count=60, size_hw=(600, 800))
    generator = np.random.default_rng(0)
    for _ in range(5):
        process = start_filling(tmp_path / "images", tmp_path / "cache")
        time.sleep(float(generator.uniform(0.02, 0.2)))
        process.kill()
        process.join()
    pictures = Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
    assert_as_decoded(pictures, tmp_path / "images")
    assert len(index_lines(tmp_path / "cache")) == 60


def test_pickled_pictures_are_a_few_bytes_and_map_the_file_again(tmp_path: Path) -> None:
    make_images(tmp_path / "images", count=20)
    pictures = Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
    assert pictures[3].shape == SIZE_HW
    content = pickle.dumps(pictures)
    assert len(content) < 5 * SLOT_BYTES
    assert_as_decoded(pickle.loads(content), tmp_path / "images")


def test_the_folder_may_be_deleted_while_a_run_goes_on(tmp_path: Path) -> None:
    make_images(tmp_path / "images", count=3)
    pictures = Pictures(images_of(tmp_path / "images"), settings_of(tmp_path / "cache"))
    elsewhere = pickle.dumps(pictures)
    shutil.rmtree(tmp_path / "cache")
    assert_as_decoded(pictures, tmp_path / "images")
    with pytest.raises(
        UserError, match="was deleted while it was being read"
    ):  # another process has nothing mapped yet
        pickle.loads(elsewhere)[0]

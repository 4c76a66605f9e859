"""Images are stored once, only with a correction, and never half."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from stage3_detect.serving.corrections.images import ImageKeeper
from stage3_detect.serving.corrections.log import DiskFullError
from tests.disks import files_of_at_most

PNG, JPEG, DICOM = b"\x89PNG\r\n\x1a\n" + b"p" * 20, b"\xff\xd8\xff" + b"j" * 10, b"\0" * 128 + b"DICM" + b"d" * 9


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_nothing_is_held(tmp_path: Path) -> None:
    keeper = ImageKeeper(tmp_path / "images", max_bytes=1000)
    assert not keeper.store(sha(PNG)) and keeper.stored(sha(PNG)) is None
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize(("data", "ending"), [(PNG, ".png"), (JPEG, ".jpg"), (DICOM, ".dcm")])
def test_an_image_is_written_when_it_is_corrected(tmp_path: Path, data: bytes, ending: str) -> None:
    keeper = ImageKeeper(tmp_path / "images", max_bytes=1000)
    keeper.hold(data, sha(data))
    assert not (tmp_path / "images").exists()
    assert keeper.store(sha(data)) and keeper.store(sha(data))
    (path,) = (tmp_path / "images").iterdir()
    assert path == keeper.stored(sha(data)) == tmp_path / "images" / f"{sha(data)}{ending}"
    assert path.read_bytes() == data and path.stat().st_mode & 0o777 == 0o600
    again = ImageKeeper(tmp_path / "images", max_bytes=1000)
    assert again.store(sha(data))  # from an earlier day


def test_the_oldest_images_are_let_go_first(tmp_path: Path) -> None:
    keeper = ImageKeeper(tmp_path, max_bytes=len(PNG) + len(DICOM))
    for data in (PNG, DICOM, PNG, JPEG, b"x" * 1000):
        keeper.hold(data, sha(data))
    kept = [keeper.store(sha(data)) for data in (DICOM, PNG, JPEG, b"x" * 1000)]
    assert kept == [False, True, True, False]  # the last one does not fit


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    keeper = ImageKeeper(tmp_path, max_bytes=1 << 20)
    large = PNG + b"x" * 50_000
    keeper.hold(large, sha(large))
    with files_of_at_most(1000), pytest.raises(DiskFullError):
        keeper.store(sha(large))
    assert list(tmp_path.iterdir()) == []
    assert keeper.store(sha(large))


def test_a_disk_without_room_for_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = ImageKeeper(tmp_path / "images", max_bytes=1000)
    keeper.hold(PNG, sha(PNG))

    def full(*_: object) -> None:  # a test cannot fill a disk
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", full)
        with pytest.raises(DiskFullError):
            keeper.store(sha(PNG))
    assert keeper.store(sha(PNG))


def test_the_rest_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    (tmp_path / f"{'a' * 64}.partial").write_bytes(b"half")
    keeper = ImageKeeper(tmp_path, max_bytes=10)
    assert list(tmp_path.iterdir()) == [] and keeper.stored("a" * 64) is None

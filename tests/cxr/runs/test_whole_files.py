"""Files are replaced as a whole or stay as they are, and a full disk is named whoever writes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cxr.config import UserError
from cxr.runs.torch_files import save_torch
from cxr.runs.whole_files import next_to, whole_file
from tests.disks import files_of_at_most


def write_text(path: Path, size: int) -> None:
    with whole_file(path) as partial, partial.open("w") as file:
        file.write("x" * size)


def write_arrays(path: Path, size: int) -> None:
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, values=np.zeros(size, dtype=np.uint8))


def write_tensors(path: Path, size: int) -> None:
    save_torch(path, {"values": torch.zeros(size, dtype=torch.uint8)})


WRITERS = (write_text, write_arrays, write_tensors)


@pytest.mark.parametrize("write", WRITERS)
def test_an_empty_and_a_replaced_file(tmp_path: Path, write: Callable[[Path, int], None]) -> None:
    path = tmp_path / "file"
    write(path, 0)
    smallest = path.stat().st_size
    write(path, 5000)
    assert path.stat().st_size >= smallest + 5000
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_keeps_the_old_file_and_names_the_new_one(
    tmp_path: Path, write: Callable[[Path, int], None]
) -> None:
    path = tmp_path / "file"
    write(path, 100)
    before = path.read_bytes()
    with files_of_at_most(20_000), pytest.raises(OSError, match=r"File too large") as refused:
        write(path, 100_000)
    assert refused.value.filename == str(path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [UserError("wrong value"), KeyError("bug"), RuntimeError("bug"), KeyboardInterrupt()])
def test_other_errors_pass(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as passed, whole_file(tmp_path / "file") as partial:
        partial.write_text("half")
        raise error
    assert passed.value is error
    assert not list(tmp_path.iterdir())


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing, whole_file(tmp_path / "file"):
        (tmp_path / "source").read_bytes()
    assert missing.value.filename == str(tmp_path / "source")


def test_a_folder_that_does_not_exist_is_named_by_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        write_text(tmp_path / "none" / "file", 1)
    assert missing.value.filename == str(tmp_path / "none" / "file")


def test_the_path_beside_a_folder_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert next_to(Path("a/b.c"), ".txt") == Path("a/b.c.txt")
    assert next_to(Path(), ".txt") == tmp_path.with_name(f"{tmp_path.name}.txt")
    assert next_to(Path(".."), "_again") == tmp_path.parent.with_name(f"{tmp_path.parent.name}_again")
    with pytest.raises(UserError, match="/: has no name"):
        next_to(Path("/"), ".txt")

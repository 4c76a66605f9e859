"""A run folder has one writer, and what a killed one left half-written is removed."""

from pathlib import Path

import pytest

from cxr.config import UserError
from cxr.runs.lock import is_locked, lock_folder, locked, remove_left_over, try_lock
from cxr.runs.run_folder import start_run
from tests.cxr.runs.test_run_folder import Own, made


def test_a_second_writer_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    lock = lock_folder(tmp_path)
    assert lock is not None
    assert is_locked(tmp_path)
    with pytest.raises(UserError, match=r"another process writes into it; wait until it ends, or give another --out"):
        lock_folder(tmp_path)
    lock.close()
    assert not is_locked(tmp_path)


def test_a_lock_file_has_one_owner_at_a_time(tmp_path: Path) -> None:
    first = try_lock(tmp_path / "a.lock")
    assert first is not None
    assert try_lock(tmp_path / "a.lock") is None
    first.close()
    with locked(tmp_path / "a.lock"):
        assert try_lock(tmp_path / "a.lock") is None
    again = try_lock(tmp_path / "a.lock")
    assert again is not None
    again.close()


def test_under_torchrun_the_first_process_locks_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert lock_folder(tmp_path) is None
    assert not is_locked(tmp_path)


def test_half_written_files_go_and_the_rest_stays(tmp_path: Path) -> None:
    remove_left_over(tmp_path)
    half = [".metrics.json.123.partial", "maps/.a.partial", "rounds/0/train/weights/last.partial"]
    whole = ["last.ckpt", "predictions.partial.jsonl", "runs/one/started.json", "runs/one/.manifest.json.9.partial"]
    for name in half + whole:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_left_over(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(whole)


def test_a_run_that_resumes_removes_them(tmp_path: Path) -> None:
    made(start_run(tmp_path, stage="stage1", settings=Own(), inputs={}))
    (tmp_path / ".last.ckpt.7.partial").touch()
    start_run(tmp_path, stage="stage1", settings=Own(), inputs={}).release()
    assert not list(tmp_path.glob(".*.partial"))

import sys
from pathlib import Path

from cxr.tracking import Tracker, read_log


def test_off_writes_lines_and_never_imports_wandb(tmp_path: Path) -> None:
    loaded = "wandb" in sys.modules
    tracker = Tracker(tmp_path)
    tracker.log(1, {"loss": 0.5})
    tracker.log(2, {"loss": None})
    tracker.finish()
    assert read_log(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": None}]
    assert ("wandb" in sys.modules) == loaded


def test_a_step_that_is_done_again_replaces_the_earlier(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    for step, loss in ((1, 0.5), (2, 0.4), (2, 0.3)):
        tracker.log(step, {"loss": loss})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')  # killed in the middle of a line
    assert read_log(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.3}]


def test_no_log_is_empty(tmp_path: Path) -> None:
    assert read_log(tmp_path) == []


def test_offline_keeps_a_wandb_run_in_the_run_folder(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, "offline", name="test")
    tracker.log(1, {"loss": 0.5, "none": None})
    tracker.finish()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert read_log(tmp_path) == [{"step": 1, "loss": 0.5, "none": None}]

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cxr.config import UserError
from cxr.tracking import Tracker, create_sweep, read_log, run_sweep_agent


def test_off_writes_lines_and_never_imports_wandb(tmp_path: Path) -> None:
    loaded = "wandb" in sys.modules
    tracker = Tracker(tmp_path)
    tracker.log(1, {"loss": 0.5})
    tracker.log(2, {"loss": None})
    tracker.finish()
    assert read_log(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": None}]
    assert ("wandb" in sys.modules) == loaded
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_step_that_is_done_again_replaces_the_earlier(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    for step, loss in ((1, 0.5), (2, 0.4), (2, 0.3)):
        tracker.log(step, {"loss": loss})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')  # killed in the middle of a line
    assert read_log(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.3}]


def test_going_on_after_a_torn_line_loses_no_further_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    Tracker(tmp_path).log(2, {"loss": 0.4})
    assert read_log(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.4}]


def test_no_log_is_empty(tmp_path: Path) -> None:
    assert read_log(tmp_path) == []


def test_offline_keeps_wandb_files_with_the_settings_in_the_run_folder(tmp_path: Path) -> None:
    import wandb

    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"head": {"kind": "pcam_of_this_test"}}))
    tracker = Tracker(tmp_path, "offline", name="test")
    tracker.log(1, {"loss": 0.5, "none": None})
    tracker.finish()
    wandb.teardown()  # its own process writes the file, and may be late
    (kept,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"pcam_of_this_test" in kept.read_bytes()
    assert b"loss" in kept.read_bytes()
    assert read_log(tmp_path) == [{"step": 1, "loss": 0.5, "none": None}]


def test_a_resumed_run_keeps_its_wandb_id_and_another_folder_has_its_own(tmp_path: Path) -> None:
    for folder in (tmp_path / "one", tmp_path / "one", tmp_path / "two"):
        folder.mkdir(exist_ok=True)
        Tracker(folder, "offline").finish()
    first, second = (
        {path.name for path in (tmp_path / name).glob("wandb/offline-run-*/*.wandb")} for name in ("one", "two")
    )
    identity = (tmp_path / "one" / "wandb" / "id.txt").read_text()
    assert first == {f"run-{identity}.wandb"}
    assert len(second) == 1
    assert first.isdisjoint(second)


SCRIPT = """
import sys
from pathlib import Path
from cxr.tracking import Tracker
tracker = Tracker(Path(sys.argv[1]), sys.argv[2])
tracker.log(1, {"loss": 0.5})
tracker.finish()
"""


def in_a_process_of_its_own(
    folder: Path, mode: str, *, proxy_port: int, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Track one step; whatever goes out goes to the proxy. `HOME` is empty, so that no account is found."""
    proxy = f"http://127.0.0.1:{proxy_port}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    env = inherited | {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "NO_PROXY": "", "no_proxy": ""} | environment
    command = [sys.executable, "-c", SCRIPT, str(folder), mode]
    return subprocess.run(
        command, env=env | {"HOME": str(folder)}, capture_output=True, text=True, timeout=60, check=False
    )


def test_offline_sends_nothing_and_prints_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        done = in_a_process_of_its_own(
            tmp_path, "offline", proxy_port=listener.getsockname()[1], WANDB_API_KEY="0" * 40
        )
        assert done.returncode == 0, done.stderr
        with pytest.raises(BlockingIOError):  # nobody called
            listener.accept()
    assert done.stdout == done.stderr == ""
    assert list(tmp_path.glob("wandb/offline-run-*"))


def test_online_without_an_account_is_told_in_one_line(tmp_path: Path) -> None:
    done = in_a_process_of_its_own(tmp_path, "online", proxy_port=9)
    assert done.returncode == 1
    assert "UserError: tracking=online: No API key configured" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("check the network, or set tracking to offline")


def fake_server(monkeypatch: pytest.MonkeyPatch, folder: Path, chosen: list[dict[str, float]]) -> None:
    """wandb's server cannot be had here: an agent that hands over `chosen` the way wandb's own agent does."""
    import wandb

    def agent(sweep_id: str, function: Callable[[], None], count: int, project: str) -> None:
        for number, values in enumerate(chosen[:count]):
            path = folder / f"chosen{number}.yaml"
            path.write_text(yaml.safe_dump({name: {"value": value} for name, value in values.items()}))
            monkeypatch.setenv("WANDB_RUN_ID", f"{sweep_id}-{number}")
            monkeypatch.setenv("WANDB_SWEEP_ID", sweep_id)
            monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(path))
            wandb.teardown()
            function()

    monkeypatch.setattr(wandb, "agent", agent)


def test_the_agent_runs_trials_with_what_the_server_chose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    fake_server(monkeypatch, tmp_path, [{"optimizer.learning_rate": 0.01}, {"optimizer.learning_rate": 0.1}])
    seen = []

    def trial(values: dict[str, float]) -> dict[str, float] | None:
        seen.append(values)
        return {"val/auroc": 0.75} if len(seen) == 1 else None  # the second one fails

    run_sweep_agent("sweep1", trial, folder=tmp_path, count=2)
    wandb.teardown()
    assert seen == [{"optimizer.learning_rate": 0.01}, {"optimizer.learning_rate": 0.1}]
    first, second = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.name)
    assert (first.name, second.name) == ("run-sweep1-0.wandb", "run-sweep1-1.wandb")
    assert b"val/auroc" in first.read_bytes()
    assert b"val/auroc" not in second.read_bytes()


def test_a_sweep_without_a_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    def refused(*_: object, **__: object) -> str:
        raise wandb.errors.CommError("no route\nto host")

    monkeypatch.setattr(wandb, "sweep", refused)
    with pytest.raises(UserError, match="wandb sweep: no route to host; run `wandb login`"):
        create_sweep({})

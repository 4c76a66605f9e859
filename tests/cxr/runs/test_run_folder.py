import json
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from cxr.config import Settings, UserError
from cxr.runs.provenance import command_line
from cxr.runs.run_folder import Run, open_run, start_run


class Own(Settings):
    seed: int = 0


def made(run: Run) -> None:
    """Leave a file in the folder, so that it is no longer as good as empty, and let go of it."""
    (run.dir / "last.ckpt").write_text("x")
    run.release()


def finished(folder: Path, **facts: object) -> Path:
    run = start_run(folder, stage="stage1", settings=Own(), inputs={})
    with run.phase("work"):
        (folder / "weights").write_text("w")
    run.finish({"auroc/mean": 0.5, "f1/mean": float("nan")}, {"weights": folder / "weights"}, **facts)
    run.release()
    return folder


def test_a_run_is_fresh_then_resumed_then_finished(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = start_run(out, stage="stage1", settings=Own(), inputs={})
    assert run.state == "fresh"
    made(run)
    again = start_run(out, stage="stage1", settings=Own(), inputs={})
    assert again.state == "resumed"
    again.release()
    finished(out)
    assert start_run(out, stage="stage1", settings=Own(), inputs={}).state == "finished"


class Process:
    """One of the processes that share a run; notes whether the folder was started when it passed the barrier."""

    def __init__(self, rank: int, together: threading.Barrier, marker: Path) -> None:
        self.is_global_zero, self.together, self.marker = rank == 0, together, marker
        self.found: list[bool] = []

    def barrier(self) -> None:
        self.together.wait()
        self.found.append(self.marker.is_file())


def test_of_processes_that_share_a_run_the_first_starts_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")  # both are threads of one process here, so neither takes the lock
    together, marker = threading.Barrier(2, timeout=20), tmp_path / "run" / "started.json"
    processes = [Process(rank, together, marker) for rank in (1, 0)]
    start = partial(start_run, tmp_path / "run", stage="stage1", settings=Own(), inputs={})
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda process: start(processes=process), processes))
    assert [run.dir for run in runs] == [tmp_path / "run"] * 2
    assert [process.found for process in processes] == [[True], [True]]


def test_other_settings_are_refused_and_the_difference_is_named(tmp_path: Path) -> None:
    made(start_run(tmp_path / "run", stage="stage1", settings=Own(), inputs={}))
    with pytest.raises(UserError, match=r"settings\.seed: 0 -> 7"):
        start_run(tmp_path / "run", stage="stage1", settings=Own(seed=7), inputs={})


def test_changed_input_is_refused(tmp_path: Path) -> None:
    source = finished(tmp_path / "source")
    made(start_run(tmp_path / "run", stage="stage2", settings=Own(), inputs={"stage1": source}))
    finished(source, changed=True)
    with pytest.raises(UserError, match=r"inputs\.stage1"):
        start_run(tmp_path / "run", stage="stage2", settings=Own(), inputs={"stage1": source})


def test_unfinished_input_is_refused(tmp_path: Path) -> None:
    start_run(tmp_path / "source", stage="stage1", settings=Own(), inputs={})
    with pytest.raises(UserError, match=r"input stage1, .*source: not found or not finished"):
        start_run(tmp_path / "run", stage="stage2", settings=Own(), inputs={"stage1": tmp_path / "source"})


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("x")
    with pytest.raises(UserError, match="is not a run folder"):
        start_run(tmp_path, stage="stage1", settings=Own(), inputs={})
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_open_gives_what_finish_wrote(tmp_path: Path) -> None:
    run = open_run(finished(tmp_path / "run", best_method="pcam"), stage="stage1")
    assert run.metrics == {"auroc/mean": 0.5, "f1/mean": None}
    assert run.manifest["best_method"] == "pcam"
    assert run.settings == {"seed": 0}
    assert run.output("weights").read_text() == "w"
    assert run.manifest["phases"]["work"]["seconds"] >= 0
    with pytest.raises(UserError, match="no output 'wights'; it has weights"):
        run.output("wights")


def test_open_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        open_run(tmp_path / "nowhere")
    start_run(tmp_path / "half", stage="stage1", settings=Own(), inputs={})
    with pytest.raises(UserError, match="is not finished"):
        open_run(tmp_path / "half")
    whole = finished(tmp_path / "whole")
    with pytest.raises(UserError, match="is a run of stage1, expected stage2"):
        open_run(whole, stage="stage2")
    (whole / "weights").write_text("tampered")
    with pytest.raises(UserError, match="changed since the run"):
        open_run(whole)


def test_paths_in_the_manifest_are_relative(tmp_path: Path) -> None:
    source = finished(tmp_path / "source")
    run = start_run(tmp_path / "run", stage="stage2", settings=Own(), inputs={"stage1": source})
    run.finish({}, {})
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["inputs"]["stage1"]["path"] == "../source"


def test_a_call_that_made_nothing_does_not_block_the_corrected_one(tmp_path: Path) -> None:
    start_run(tmp_path / "run", stage="stage1", settings=Own(), inputs={}).release()
    (tmp_path / "run" / ".config.yaml.7.partial").write_text("killed in mid-write")
    run = start_run(tmp_path / "run", stage="stage1", settings=Own(seed=7), inputs={})
    assert run.state == "fresh"
    assert "seed: 7" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    holder = start_run(tmp_path / "run", stage="stage1", settings=Own(), inputs={})
    script = (
        "from pathlib import Path; from cxr.config import Settings; from cxr.runs.run_folder import start_run\n"
        f"start_run(Path({str(tmp_path / 'run')!r}), stage='stage1', settings=Settings(), inputs={{}})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "another process writes into it" in done.stderr
    holder.release()


@pytest.mark.parametrize("name", ["fractions", "patients_per_finding"])
def test_order_of_the_splits_counts_as_a_setting(tmp_path: Path, name: str) -> None:
    class Parts(Settings):
        fractions: dict[str, float] = {}
        patients_per_finding: dict[str, int] = {}

    def settings(*order: str) -> Parts:
        return Parts.model_validate({name: dict.fromkeys(order, 1)})

    made(start_run(tmp_path / "run", stage="s", settings=settings("a", "b"), inputs={}))
    with pytest.raises(UserError, match=f"{name} in order"):
        start_run(tmp_path / "run", stage="s", settings=settings("b", "a"), inputs={})


def test_a_finished_run_with_a_file_gone_is_finished_again(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    (folder / "weights").unlink()
    assert start_run(folder, stage="stage1", settings=Own(), inputs={}).state == "resumed"
    assert not (folder / "manifest.json").exists()


OUTPUTS = '{"format": 2, "stage": "s", "settings": {}, "metrics": {}, "outputs": %s}'


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"format": 1}', "{", *(OUTPUTS % text for text in ("[]", "3", '{"a": 3}', '{"a": {}}'))]
)
def test_damaged_manifests_are_told(tmp_path: Path, text: str) -> None:
    folder = finished(tmp_path / "run")
    (folder / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json"):
        open_run(folder)


def test_many_differences_are_counted(tmp_path: Path) -> None:
    class Many(Settings):
        values: dict[str, int]

    was, now = ({f"v{number:02d}": number + extra for number in range(30)} for extra in (0, 1))
    made(start_run(tmp_path / "run", stage="s", settings=Many(values=was), inputs={}))
    with pytest.raises(UserError) as error:
        start_run(tmp_path / "run", stage="s", settings=Many(values=now), inputs={})
    assert len(error.value.problems) == 12
    assert error.value.problems[1] == "  settings.values.v00: 0 -> 1"
    assert error.value.problems[-1] == "  and 20 more"


def test_a_call_that_only_read_the_data_does_not_block_the_corrected_one(tmp_path: Path) -> None:
    start_run(tmp_path / "run", stage="stage1", settings=Own(), inputs={}).release()
    (tmp_path / "run" / "splits.json").write_text("{}")
    assert start_run(tmp_path / "run", stage="stage1", settings=Own(seed=7), inputs={}).state == "fresh"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "splits.json").write_text("somebody's own")
    with pytest.raises(UserError, match="is not a run folder"):
        start_run(tmp_path / "other", stage="stage1", settings=Own(), inputs={})


def test_the_folder_of_another_stage_is_refused_in_one_line(tmp_path: Path) -> None:
    out = finished(tmp_path / "run")
    with pytest.raises(UserError) as caught:
        start_run(out, stage="stage3", settings=Own(seed=1), inputs={})
    assert caught.value.problems == [f"--out {out}: is the folder of a stage1 run, expected stage3; give another"]


def test_a_name_that_is_not_utf8_is_logged(tmp_path: Path) -> None:
    run = start_run(tmp_path / "run", stage="stage1", settings=Own(), inputs={})
    logging.getLogger("raybox").info("read %s", os.fsdecode(b"\xff.png"))
    assert (run.dir / "log.txt").read_text().endswith("read \\udcff.png\n")
    run.release()


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("data.root=/x", "data.root=/x"),
        ("api_key=1234", "api_key=***"),
        ("--wandb-token=1234", "--wandb-token=***"),
        ("tracking.SECRET_word=1234 5", "tracking.SECRET_word=***"),
        ("sampling.keyed=1", "sampling.keyed=1"),
        ("base=https://me:1234@host/path", "base=https://me:***@host/path"),
    ],
)
def test_a_secret_on_the_command_line_is_not_kept(word: str, kept: str) -> None:
    assert command_line(["/somewhere/run.py", word]) == ["run.py", kept]


def test_no_secret_of_the_environment_is_in_a_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "ULTRALYTICS_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, f"zzyzx{name}")
    monkeypatch.setattr(sys, "argv", ["run.py", "--set", "api_key=zzyzx"])
    files = [path for path in finished(tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) > 4
    assert not [path for path in files if b"zzyzx" in path.read_bytes()]

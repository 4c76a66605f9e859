"""A stage as one job; a small script stands in for the stage."""

from dataclasses import replace
from pathlib import Path

import pytest

from cxr.cli import StageArguments
from cxr.config import UserError
from cxr.runs.job_start import Job
from cxr.runs.jobs import Outcome
from cxr.runs.run_folder import open_run
from cxr.runs.stage_job import run_as_job

STAGE = """
import sys
from pathlib import Path
from cxr.config import Settings, UserError
from cxr.cli import exit_code, parse_stage_arguments
from cxr.runs.run_folder import start_run

def main():
    given = parse_stage_arguments("stage2", previous="stage1")
    if "a=2" in given.overrides:
        raise UserError("a: got 2")
    run = start_run(given.out, stage="stage2", settings=Settings(), inputs={})
    run.finish({}, {}, told=[str(given.config), *map(str, given.sources), *given.overrides])

sys.exit(exit_code(main))
"""


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    path = tmp_path / "run.py"
    path.write_text(STAGE)
    return path


def arguments(out: Path, *overrides: str) -> StageArguments:
    return StageArguments(Path("c.yaml"), out, (Path("one"),), overrides, None, "local")


def test_without_cluster_nothing_is_done(stage: Path, tmp_path: Path) -> None:
    assert not run_as_job(stage, replace(arguments(tmp_path / "out"), cluster=None))
    assert [path.name for path in tmp_path.iterdir()] == ["run.py"]


def test_the_job_is_given_the_whole_command_line(stage: Path, tmp_path: Path) -> None:
    assert run_as_job(stage, arguments(tmp_path / "out", "a=1", "b=[1, 2]"))
    assert open_run(tmp_path / "out").manifest["told"] == ["c.yaml", "one", "a=1", "b=[1, 2]"]


@pytest.mark.slow
def test_a_stage_that_fails_is_named_with_its_log(stage: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a: got 2 \(log: .*out\.txt\)"):
        run_as_job(stage, arguments(tmp_path / "out", "a=2"))


@pytest.mark.parametrize(("asked", "expected"), [("gpus=0", ""), ("gpus=1", ""), ("gpus=4", "4")])
def test_a_process_for_each_gpu(asked: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queued: list[Job] = []

    def take(jobs: list[Job], **_: object) -> list[Outcome]:
        queued.extend(jobs)
        return [Outcome(jobs[0])]

    monkeypatch.setattr("cxr.runs.stage_job.run_jobs", take)
    run_as_job(Path("run.py"), replace(arguments(tmp_path / "out"), cluster_changes=(asked,)), torchrun=True)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", expected) if expected else ()
    assert queued[0].command == (*launcher, "run.py", "c.yaml", "--from", "one")


def test_a_comparison_of_processes_stays_on_this_machine(stage: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--check-distributed: runs on this machine"):
        run_as_job(stage, replace(arguments(tmp_path / "out"), num_checked=2))

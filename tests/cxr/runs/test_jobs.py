"""Trainings in their own processes. Small scripts that make run folders stand in for trainings."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cxr.cli import EXIT_INTERRUPTED
from cxr.config import Settings, UserError, load_config
from cxr.runs.job_start import Job, LocalProcesses
from cxr.runs.jobs import failures_of, flatten, override, run_command, run_jobs, threads_of
from tests.cxr.runs.job_builders import is_alive, job, problems, script

__all__ = ["script"]


def test_no_jobs_are_done_at_once() -> None:
    assert list(run_jobs([])) == []


def test_a_finished_folder_is_not_touched_again(script: Path) -> None:
    one = job(script, "one")
    assert problems(list(run_jobs([one]))) == {"one": ""}
    assert problems(list(run_jobs([one]))) == {"one": ""}
    assert len((one.out / "began.txt").read_text().splitlines()) == 1


def test_failures_are_reported_and_what_needs_them_fails_too(script: Path) -> None:
    mistake, crash = job(script, "mistake", "mistake"), job(script, "crash", "crash")
    after = job(script, "after", needs=(mistake.out,))
    outcomes = problems(list(run_jobs([mistake, crash, after], num_parallel=2)))
    assert outcomes == {
        "mistake": "the loss is nan; lower the rate",
        "crash": "ValueError: no such layer",
        "after": "needs mistake, which failed",
    }
    assert not after.out.exists()


def test_a_job_waits_for_those_that_it_needs(script: Path) -> None:
    first = job(script, "first", "sleep0.5")
    second = job(script, "second", needs=(first.out,))
    assert problems(list(run_jobs([first, second], num_parallel=2))) == {"first": "", "second": ""}
    began = float((second.out / "began.txt").read_text().split()[0])
    assert began > float((first.out / "ended.txt").read_text())


def spans(jobs: list[Job]) -> list[tuple[float, float]]:
    return [
        (float((one.out / "began.txt").read_text().split()[0]), float((one.out / "ended.txt").read_text()))
        for one in jobs
    ]


def test_one_at_a_time_by_default(script: Path) -> None:
    jobs = [job(script, name) for name in ("a", "b")]
    assert len(list(run_jobs(jobs))) == 2
    (_, first_end), (second_begin, _) = spans(jobs)
    assert second_begin > first_end


def test_two_run_at_a_time(script: Path) -> None:
    jobs = [job(script, name, "meet") for name in ("a", "b")]  # each waits for the other
    assert len(list(run_jobs(jobs, num_parallel=2))) == 2
    first, second = spans(jobs)
    assert max(first[0], second[0]) < min(first[1], second[1])


def test_each_process_has_its_threads(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    list(run_jobs([job(script, "inherited")]))
    list(run_jobs([job(script, "given")], starter=LocalProcesses(num_threads=3)))
    threads = {
        name: (script.parent / "runs" / name / "began.txt").read_text().split()[1] for name in ("inherited", "given")
    }
    assert threads == {"inherited": "7", "given": "3"}


def test_a_killed_process_stops_everything_and_the_next_call_goes_on(script: Path) -> None:
    killed, other = job(script, "killed", "killed"), job(script, "other", "sleep30")
    with pytest.raises(UserError, match=r"killed: its command was ended by SIGKILL .* to resume"):
        list(run_jobs([other, killed], num_parallel=2))
    assert not (other.out / "ended.txt").exists()
    again = [Job(one.name, one.out, (str(script), "fine")) for one in (killed, other)]
    assert problems(list(run_jobs(again))) == {"killed": "", "other": ""}


def test_leaving_early_leaves_no_process_behind(script: Path) -> None:
    quick, slow = job(script, "quick"), job(script, "slow", "sleep30")
    outcomes = run_jobs([quick, slow], num_parallel=2)
    assert next(outcomes).job.name == "quick"
    begin = time.monotonic()
    outcomes.close()
    assert time.monotonic() - begin < 9  # ended, not waited for
    assert problems(list(run_jobs([Job("slow", slow.out, (str(script), "fine"))]))) == {"slow": ""}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_terminated_call_ends_its_trainings(script: Path, number: signal.Signals) -> None:
    slow = job(script, "slow", "sleep30")
    driver = (
        "import signal, sys\nfrom pathlib import Path\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where the test runs in the background
        "from cxr.cli import exit_code\n"
        "from cxr.runs.job_start import Job\nfrom cxr.runs.jobs import failures_of\n"
        f"slow = Job('slow', Path({str(slow.out)!r}), {slow.command!r})\n"
        "sys.exit(exit_code(lambda: failures_of([slow], num_parallel=2)))"
    )
    process = subprocess.Popen([sys.executable, "-c", driver], stderr=subprocess.DEVNULL)
    while not (slow.out / "began.txt").exists():
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(20) == EXIT_INTERRUPTED
    begin = time.monotonic()  # a training that lived on would be waited for
    assert problems(list(run_jobs([Job("slow", slow.out, (str(script), "fine"))]))) == {"slow": ""}
    assert time.monotonic() - begin < 20


def test_processes_that_a_run_started_end_with_it(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr.runs.job_start.GRACE_S", 0.2)
    quick, stubborn = job(script, "quick"), job(script, "stubborn", "stubborn")
    outcomes = run_jobs([quick, stubborn], num_parallel=2)
    next(outcomes)
    pid_file = stubborn.out / "child.txt"
    while not pid_file.exists() or not pid_file.read_text():
        time.sleep(0.05)
    outcomes.close()
    deadline = time.monotonic() + 20  # a process that was sent SIGKILL may take a moment to end
    while is_alive(int(pid_file.read_text())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(int(pid_file.read_text()))


def test_a_process_that_a_killed_call_left_behind_is_waited_for(script: Path) -> None:
    one = job(script, "one", "sleep1.5")
    one.out.mkdir(parents=True)
    left = subprocess.Popen([sys.executable, *one.command, "--out", str(one.out)], env=dict(os.environ))
    while not (one.out / "began.txt").exists():
        time.sleep(0.05)
    assert problems(list(run_jobs([one]))) == {"one": ""}
    assert left.wait() == 0
    assert len((one.out / "began.txt").read_text().splitlines()) == 1


def test_processors_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads_of(2) is None
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [threads_of(jobs) for jobs in (1, 2, 3, 16)] == [None, 4, 2, 1]


def test_failures_are_kept_by_folder_and_every_end_is_logged(
    script: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("raybox"), "propagate", True)
    assert failures_of([]) == {}
    fine, mistake = job(script, "fine"), job(script, "mistake", "mistake")
    with caplog.at_level("INFO", "raybox"):
        assert failures_of([fine, mistake]) == {mistake.out: "the loss is nan; lower the rate"}
    assert "1 of 2  fine: finished" in caplog.text
    assert "2 of 2  mistake: the loss is nan; lower the rate" in caplog.text


def test_commands_name_only_what_is_given() -> None:
    script, config = Path("run.py"), Path("a.yaml")
    assert run_command(script, config, {}) == ("run.py", "a.yaml")
    given = run_command(script, config, {"a.b": None, "c": [1, "x"]}, sources=[Path("r1"), Path("r2")])
    assert given == ("run.py", "a.yaml", "--from", "r1", "r2", "--set", "a.b=null", "c=[1, x]")


def test_sections_are_flattened_and_the_later_value_counts() -> None:
    assert flatten({}) == {}
    assert flatten({"a": {"b": 1, "c": {}}, "d": 2}) == {"a.b": 1, "a.c": {}, "d": 2}
    assert list(flatten({"a.b": 1, "x": 0, "a": {"b": 2}}).items()) == [("x", 0), ("a.b", 2)]


class Anything(Settings):
    value: Any


@pytest.mark.parametrize(
    "value",
    ["", "no", "1e-3", "a: b", "…", "x...", "[1", None, True, 3, 1e-05, 0.1 + 0.2, [1, "2"], {"a b": {"c": 0.5}}, {}],
)
def test_an_override_is_read_back_as_it_was(tmp_path: Path, value: object) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("value: other\n")
    read = load_config(Anything, path, [override("value", value)]).value
    assert read == value
    assert type(read) is type(value)

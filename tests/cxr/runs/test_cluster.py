"""Jobs through submitit: on this machine, and in a queue that programs with the names of SLURM's stand in for."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cxr.cli import EXIT_INTERRUPTED
from cxr.config import UserError
from cxr.runs.cluster import ClusterJobs
from cxr.runs.cluster_settings import ClusterSettings, load_cluster
from cxr.runs.job_start import Job, JobKilledError
from cxr.runs.jobs import run_jobs
from tests.cxr.runs.job_builders import is_alive, job, problems, script

__all__ = ["script"]


def local(script: Path, **settings: float) -> ClusterJobs:
    return ClusterJobs(ClusterSettings(engine="local", **settings), script.parent / "cluster")


def test_jobs_on_this_machine_end_as_its_processes_do_and_nothing_is_unpickled_here(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "made-up-secret")
    monkeypatch.setattr("submitit.core.utils.pickle_load", lambda path: pytest.fail(f"{path} was unpickled"))
    fine, mistake = job(script, "fine"), job(script, "mistake", "mistake")
    after = job(script, "after", needs=(mistake.out,))
    outcomes = list(run_jobs([fine, mistake, after], num_parallel=2, starter=local(script)))
    assert problems(outcomes) == {
        "fine": "",
        "mistake": "the loss is nan; lower the rate",
        "after": "needs mistake, which failed",
    }
    folder = script.parent / "cluster"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    pickles = [path.read_bytes() for path in folder.glob("*_submitted.pkl")]
    assert len(pickles) == 2
    for content in pickles:
        assert b"cxr.runs.cluster" in content  # by name, without code
        assert b"made-up-secret" not in content
    assert problems(list(run_jobs([fine], starter=local(script)))) == {"fine": ""}
    assert len((fine.out / "began.txt").read_text().splitlines()) == 1
    assert sorted(path.name for path in fine.out.parent.iterdir()) == ["fine", "fine.txt", "mistake", "mistake.txt"]


DRIVER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test in the background inherits that Ctrl-C is ignored
from pathlib import Path
from cxr.cli import exit_code
from cxr.runs.cluster import ClusterJobs
from cxr.runs.cluster_settings import ClusterSettings
from cxr.runs.job_start import Job
from cxr.runs.jobs import failures_of
script, what, out, engine = sys.argv[1:5]
settings = ClusterSettings(engine=engine, gpus=0, time_h=1)
starter = lambda: ClusterJobs(settings, Path(script).parent / "cluster")
sys.exit(exit_code(lambda: failures_of([Job("slow", Path(out), (script, what))], starter=starter())))
"""


def start_driver(script: Path, slow: Job, engine: str = "local") -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", DRIVER, *slow.command, str(slow.out), engine]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)


def wait_for_file(path: Path) -> str:
    end = time.monotonic() + 60
    while not path.exists() or not path.read_text():
        assert time.monotonic() < end, path
        time.sleep(0.05)
    return path.read_text()


@pytest.mark.slow
def test_ctrl_c_at_the_terminal_ends_the_jobs_and_what_they_started(script: Path) -> None:
    """A terminal sends it to the whole group, to the engine's processes, too."""
    slow = job(script, "slow", "patient")
    process = start_driver(script, slow)
    child = int(wait_for_file(slow.out / "child.txt"))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) == EXIT_INTERRUPTED
    assert not is_alive(child)


@pytest.mark.slow
def test_sigterm_ends_the_jobs(script: Path) -> None:
    slow = job(script, "slow", "patient")
    process = start_driver(script, slow)
    child = int(wait_for_file(slow.out / "child.txt"))
    process.terminate()
    assert process.wait(20) == EXIT_INTERRUPTED
    assert not is_alive(child)


@pytest.mark.slow
def test_a_killed_command_is_named_with_its_log(script: Path) -> None:
    killed = job(script, "killed", "killed")
    with pytest.raises(JobKilledError, match=r"killed: its command was ended by SIGKILL .*killed\.txt, then"):
        list(run_jobs([killed], starter=local(script)))


@pytest.mark.slow
def test_a_job_that_ends_before_its_command_is_named_with_its_logs(script: Path) -> None:
    slow = job(script, "slow", "patient")
    starter = local(script)
    started = starter.start(slow)
    child = int(wait_for_file(slow.out / "child.txt"))
    (engine,) = psutil.Process(int(started.submitted.job_id)).children()
    engine.kill()
    with pytest.raises(JobKilledError, match=r"slow: job \d+ of local ended before its command did .*slow\.txt and"):
        while started.exit_code() is None:
            time.sleep(0.1)
    os.killpg(os.getpgid(child), signal.SIGKILL)  # nobody else is left to end the command


@pytest.mark.slow
def test_a_job_at_its_time_limit_is_queued_again_and_resumes(script: Path) -> None:
    """The first try takes too long; the second one finds what it left."""
    one = job(script, "one", "twice")
    outcomes = list(run_jobs([one], starter=local(script, time_h=8 / 3600)))
    assert problems(outcomes) == {"one": ""}
    assert len((one.out / "began.txt").read_text().splitlines()) == 2


def test_a_folder_of_another_user_or_behind_a_link_is_refused(script: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cluster").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="belongs to another user or is a link"):
        local(script)


# A queue

QUEUE = """
import os, re, signal, subprocess, sys
from pathlib import Path
state, program, arguments = Path(__file__).parent, Path(sys.argv[0]).name, sys.argv[1:]
if program == "sbatch":
    number = len(list(state.glob("*.sbatch"))) + 100
    text = Path(arguments[0]).read_text()
    (state / f"{number}.sbatch").write_text(text)
    environment = os.environ | {"SLURM_JOB_ID": str(number)}
    logs = open(state / f"{number}.log", "w")
    command = ["bash", arguments[0]]
    process = subprocess.Popen(command, env=environment, stdout=logs, stderr=logs, start_new_session=True)
    (state / f"{number}.pid").write_text(str(process.pid))
    print(f"Submitted batch job {number}")
elif program == "srun":
    place = [place for place, argument in enumerate(arguments) if not argument.startswith("-")][0]
    while not Path(arguments[place]).exists() and "python" not in arguments[place]:
        place += 1
    os.execvp(arguments[place], arguments[place:])
elif program == "scancel":
    os.killpg(int((state / f"{arguments[0]}.pid").read_text()), signal.SIGTERM)
elif program == "sacct":
    print("JobID|State|NodeList")
    for file in state.glob("*.pid"):
        pid = file.read_text()
        status = Path(f"/proc/{pid}/stat")
        runs = status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
        print(f"{file.stem}|{'RUNNING' if runs else 'FAILED'}|node1")
"""


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs called sbatch, srun, scancel and sacct: a job begins at once, on this machine."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for program in ("sbatch", "srun", "scancel", "sacct"):
        (folder / program).write_text(f"#!{sys.executable}\n{QUEUE}")
        (folder / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_jobs_of_slurm_ask_for_what_was_given_and_one_that_fails_stops_no_other(script: Path, queue: Path) -> None:
    given = ("time_h=1.5", "gpus=2", "partition=gpu", "account=chest", "memory_gb=64", "sbatch={reservation: night}")
    settings = load_cluster("slurm", given)
    assert settings is not None
    starter = ClusterJobs(settings, script.parent / "cluster")
    jobs = [job(script, "killed", "killed"), job(script, "fine")]
    outcomes = problems(list(run_jobs(jobs, num_parallel=settings.num_at_a_time(1), starter=starter)))
    assert outcomes["fine"] == ""
    assert outcomes["killed"].startswith("killed: its command was ended by SIGKILL")
    options = {line.removeprefix("#SBATCH --") for line in (queue / "101.sbatch").read_text().splitlines()}
    asked = {"job-name=fine", "time=90", "gpus-per-node=2", "partition=gpu", "account=chest", "mem=64GB"}
    assert asked | {"reservation=night"} <= options


@pytest.mark.slow
def test_a_job_that_a_killed_call_queued_is_waited_for(script: Path, queue: Path) -> None:
    slow = job(script, "slow", "sleep4")
    process = start_driver(script, slow, "slurm")
    wait_for_file(slow.out.with_name("slow.job"))
    process.kill()
    process.wait()
    settings = ClusterSettings(engine="slurm", gpus=0, time_h=1)
    starter = ClusterJobs(settings, script.parent / "cluster")
    assert starter.start(slow).submitted.job_id == "100"
    assert problems(list(run_jobs([slow], starter=starter))) == {"slow": ""}
    assert len((slow.out / "began.txt").read_text().splitlines()) == 1
    assert len(list(queue.glob("*.sbatch"))) == 1


@pytest.mark.slow
def test_a_terminated_call_cancels_its_jobs_in_the_queue(script: Path, queue: Path) -> None:
    slow = job(script, "slow", "patient")
    process = start_driver(script, slow, "slurm")
    child = int(wait_for_file(slow.out / "child.txt"))
    process.terminate()
    assert process.wait(20) == EXIT_INTERRUPTED
    end = time.monotonic() + 20
    while is_alive(child) and time.monotonic() < end:
        time.sleep(0.1)
    assert not is_alive(child)
    assert not slow.out.with_name("slow.job").exists()


# Settings


def test_without_cluster_there_is_none() -> None:
    assert load_cluster(None) is None


@pytest.mark.parametrize(
    ("where", "changes", "told"),
    [
        (None, ["gpus=1"], "--cluster-set: needs --cluster"),
        ("sge", [], "--cluster sge: expected slurm, local or a settings file"),
        ("slurm", [], "slurm needs time_h and gpus of each job"),
        ("slurm", ["time_h=1"], "slurm needs gpus of each job"),
        ("slurm", ["time_h=1", "gpus=1", "partiton=x"], r"--cluster-set: .*nearest: 'partition'"),
        ("local", ["partition=gpu"], "partition: only for slurm"),
        ("local", ["gpus"], "--cluster-set 'gpus': expected key=value"),
    ],
)
def test_what_cannot_be_meant_is_one_line(where: str | None, changes: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        load_cluster(where, changes)


def test_settings_from_a_file_and_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("engine: slurm\ntime_h: 0.01\ngpus: 1\nsetup: [module load cuda]\n")
    settings = load_cluster(str(path), ["gpus=4"])
    assert settings is not None
    assert (settings.gpus, settings.time_min, settings.setup) == (4, 1, ["module load cuda"])
    assert (settings.num_at_a_time(2), ClusterSettings(engine="local").num_at_a_time(2)) == (32, 2)

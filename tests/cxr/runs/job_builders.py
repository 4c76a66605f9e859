"""Small scripts that make run folders stand in for trainings."""

from pathlib import Path

import psutil
import pytest

from cxr.runs.job_start import Job
from cxr.runs.jobs import Outcome

SCRIPT = """
import os, signal, subprocess, sys, time
from pathlib import Path
from cxr.cli import EXIT_INTERRUPTED
from cxr.config import Settings, UserError
from cxr.cli import exit_code
from cxr.runs.run_folder import start_run

out, what = Path(sys.argv[-1]), sys.argv[1]

def main():
    run = start_run(out, stage="stage1", settings=Settings(), inputs={})
    with (out / "began.txt").open("a") as file:
        file.write(f"{time.time()} {os.environ.get('OMP_NUM_THREADS')}\\n")
    if what == "mistake":
        raise UserError(["the loss is nan", "lower the rate"])
    if what == "crash":
        raise ValueError("no such layer")
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "meet":
        end = time.time() + 60
        while len(list(out.parent.glob("*/began.txt"))) < 2 and time.time() < end:
            time.sleep(0.05)
    if what == "stubborn":  # starts a process of its own, and both ignore SIGTERM
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "60"])
        (out / "child.txt").write_text(str(child.pid))
        child.wait()
    if what == "patient":  # starts a process of its own
        child = subprocess.Popen(["sleep", "60"])
        (out / "child.txt").write_text(str(child.pid))
        child.wait()
    if what == "twice" and len((out / "began.txt").read_text().splitlines()) == 1:
        time.sleep(60)
    if what.startswith("sleep"):
        time.sleep(float(what.removeprefix("sleep")))
    (out / "ended.txt").write_text(str(time.time()))
    run.finish({}, {"began": out / "began.txt"})

sys.exit(exit_code(main))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def job(script: Path, name: str, what: str = "fine", *, needs: tuple[Path, ...] = ()) -> Job:
    return Job(name, script.parent / "runs" / name, (str(script), what), needs)


def problems(outcomes: list[Outcome]) -> dict[str, str]:
    return {outcome.job.name: outcome.problem for outcome in outcomes}


def is_alive(pid: int) -> bool:
    """False also for a process that has ended and that nobody has waited for."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

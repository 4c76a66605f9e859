"""Many runs from one settings file: each variant changes some settings and runs in its own process.

A process that is killed does not end the other runs, and the next call resumes its run.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field

from cxr.cli import EXIT_INTERRUPTED
from cxr.config import UserError
from cxr.progress import track
from cxr.runs.lock import is_locked
from cxr.runs.run_folder import open_run
from cxr.threads import num_cores

POLL_S = 0.2
GRACE_S = 10.0

log = logging.getLogger("raybox")


def flatten(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Turn ``{train: {num_epochs: 3}}`` into ``{train.num_epochs: 3}``, which leaves the section's other keys as they
    are. Where a key is given twice, the later value counts."""
    flat: dict[str, Any] = {}
    for key, value in overrides.items():
        inner = flatten(value) if isinstance(value, dict) and value else None
        found = {key: value} if inner is None else {f"{key}.{name}": leaf for name, leaf in inner.items()}
        flat = {name: leaf for name, leaf in flat.items() if name not in found} | found
    return flat


Overrides = Annotated[dict[str, Any], AfterValidator(flatten)]
"""Dotted key of a setting -> its value, as ``--set`` accepts them. A section changes only the keys that it names."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
"""A name that also names folders and metrics."""


@dataclass(frozen=True)
class Job:
    """One run to make in the folder `out`.

    command: a script and its arguments, without ``--out``. needs: run folders that must be finished first.
    """

    name: str
    out: Path
    command: tuple[str, ...]
    needs: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a job ended. `problem` is empty for a finished run."""

    job: Job
    problem: str = ""


def override(key: str, value: Any) -> str:
    """Write ``key=value`` for ``--set``, so that `value` is read back unchanged."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
    return f"{key}={text.strip().removesuffix('...').strip()}"


def run_command(
    script: Path, config: Path, overrides: Mapping[str, Any], *, sources: Sequence[Path] = ()
) -> tuple[str, ...]:
    """Build ``script config --from sources --set key=value ...``, without the options that have no values."""
    before = ["--from", *map(str, sources)] if sources else []
    changes = ["--set", *(override(*item) for item in overrides.items())] if overrides else []
    return (str(script), str(config), *before, *changes)


def is_finished(out: Path) -> bool:
    """True for a finished run whose output files all exist."""
    try:
        run = open_run(out)
        return all(run.output(name).is_file() for name in run.manifest["outputs"])
    except UserError:
        return False


def run_jobs(
    jobs: Sequence[Job], *, num_parallel: int = 1, num_threads: int | None = None
) -> Generator[Outcome, None, None]:
    """Make every run, up to `num_parallel` at a time, and yield each outcome as soon as it is known.

    Finished runs are not started again. A job that needs a failed one fails too. The output of a process goes to a
    ``.txt`` file next to its run folder. All started processes end with this generator, also when it is closed early
    and when this process receives SIGTERM.

    jobs: each after those that it needs. num_threads: of each process; None keeps what the environment says.

    Raises:
        UserError: a process was killed or interrupted, which says nothing about its settings.
        KeyboardInterrupt: this process received SIGTERM.
    """
    waiting, running = list(jobs), dict[Job, subprocess.Popen[str]]()
    outcomes: dict[Path, Outcome] = {}
    reported: set[Path] = set()
    with _noting_sigterm() as received:
        try:
            while waiting or running:
                if received:
                    raise KeyboardInterrupt
                ended = [_outcome(job, process) for job, process in running.items() if process.poll() is not None]
                for job in [job for job in waiting if all(path in outcomes for path in job.needs)]:
                    early = _without_work(job, outcomes)
                    if early is None and len(running) < num_parallel and not _must_wait(job.out, reported):
                        running[job] = _start(job, num_threads)
                        waiting.remove(job)
                    elif early is not None:
                        ended.append(early)
                        waiting.remove(job)
                for outcome in ended:
                    running.pop(outcome.job, None)
                    outcomes[outcome.job.out] = outcome
                    yield outcome
                time.sleep(0 if ended else POLL_S)
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                _end(process)


@contextmanager
def _noting_sigterm() -> Iterator[list[int]]:
    """Collect SIGTERM instead of dying of it, so that the caller can stop its processes first. A thread other than the
    main one cannot handle signals, and collects none."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


def failures_of(jobs: Sequence[Job], *, num_parallel: int = 1, num_threads: int | None = None) -> dict[Path, str]:
    """Run all jobs with a progress bar and one log line per job; returns run folder -> problem of those that failed."""
    failures: dict[Path, str] = {}
    with closing(run_jobs(jobs, num_parallel=num_parallel, num_threads=num_threads)) as outcomes:
        for number, outcome in enumerate(track(outcomes, "runs", total=len(jobs)), start=1):
            log.info("%d of %d  %s: %s", number, len(jobs), outcome.job.name, outcome.problem or "finished")
            if outcome.problem:
                failures[outcome.job.out] = outcome.problem
    return failures


def threads_of(num_parallel: int) -> int | None:
    """Threads for each of `num_parallel` processes: an even share of the processor's cores. None where a single process
    has all cores, or where OMP_NUM_THREADS is set."""
    if num_parallel == 1 or "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, num_cores() // num_parallel)


def _without_work(job: Job, outcomes: Mapping[Path, Outcome]) -> Outcome | None:
    """The outcome of a job that is finished already or cannot run; None where it must be started."""
    failed = [outcomes[path].job.name for path in job.needs if outcomes[path].problem]
    if failed:
        return Outcome(job, f"needs {', '.join(failed)}, which failed")
    return Outcome(job) if is_finished(job.out) else None


def _must_wait(out: Path, reported: set[Path]) -> bool:
    """True while another process writes into the folder; logged once."""
    if not is_locked(out):
        return False
    if out not in reported:
        log.info("%s: another process still writes there; waiting for it", out)
    reported.add(out)
    return True


def _start(job: Job, num_threads: int | None) -> "subprocess.Popen[str]":
    environment = dict(os.environ)
    if num_threads is not None:
        environment["OMP_NUM_THREADS"] = str(num_threads)
    job.out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, *job.command, "--out", str(job.out)]
    with _log_file(job).open("w", encoding="utf-8") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,  # a group of its own, see _end
        )


def _log_file(job: Job) -> Path:
    return job.out.with_name(f"{job.out.name}.txt")


def _outcome(job: Job, process: "subprocess.Popen[str]") -> Outcome:
    code = process.returncode
    if code == 0:
        return Outcome(job, "" if is_finished(job.out) else "ended without a finished run")
    if code < 0 or code == EXIT_INTERRUPTED:
        number = -code if code < 0 else signal.SIGINT
        raise UserError(
            f"{job.name}: its process was ended by {signal.Signals(number).name} (out of memory, out of time, or by "
            f"hand); see {_log_file(job)}, then give the same command again to resume"
        )
    return Outcome(job, _last_words(_log_file(job)))


def _last_words(path: Path) -> str:
    """The errors that a failed process printed, or else its last line."""
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    problems = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return "; ".join(problems or lines[-1:]) or "failed without a message"


def _end(process: "subprocess.Popen[str]") -> None:
    """Wait for a terminated process, then kill what is left of it and of the processes that it started."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

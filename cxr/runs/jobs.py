"""Many runs from one settings file: variants as changes of it, each in a process of its own.

Processes are isolated, killable, and go on in their own folders when asked again.
"""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field

from cxr.cli import EXIT_INTERRUPTED
from cxr.config import UserError
from cxr.progress import track
from cxr.runs.run_folder import open_run

POLL_S = 0.2
GRACE_S = 10.0

log = logging.getLogger("raybox")


def flatten(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """``{train: {num_epochs: 3}}`` to ``{train.num_epochs: 3}``, so that the section's other keys stay; of two values
    for one key the later counts."""
    flat: dict[str, Any] = {}
    for key, value in overrides.items():
        inner = flatten(value) if isinstance(value, dict) and value else None
        found = {key: value} if inner is None else {f"{key}.{name}": leaf for name, leaf in inner.items()}
        flat = {name: leaf for name, leaf in flat.items() if name not in found} | found
    return flat


Overrides = Annotated[dict[str, Any], AfterValidator(flatten)]
"""Dotted key of a setting -> its value, as --set takes them. A section changes in the keys it names."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
"""Names folders and figures."""


@dataclass(frozen=True)
class Job:
    """One run folder to be made.

    command: a script and its arguments, without --out. needs: run folders that must be finished before.
    """

    name: str
    out: Path
    command: tuple[str, ...]
    needs: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a job ended; `problem` is empty for a finished run."""

    job: Job
    problem: str = ""


def override(key: str, value: Any) -> str:
    """``key=value`` as --set takes it; the value is read back as it is."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
    return f"{key}={text.strip().removesuffix('...').strip()}"


def run_command(
    script: Path, config: Path, overrides: Mapping[str, Any], *, sources: Sequence[Path] = ()
) -> tuple[str, ...]:
    """``script config --from sources --set key=value ...``; what is empty is left out."""
    before = ["--from", *map(str, sources)] if sources else []
    changes = ["--set", *(override(*item) for item in overrides.items())] if overrides else []
    return (str(script), str(config), *before, *changes)


def is_finished(out: Path) -> bool:
    """True for a finished run that is whole."""
    try:
        run = open_run(out)
        return all(run.output(name).is_file() for name in run.manifest["outputs"])
    except UserError:
        return False


def run_jobs(
    jobs: Sequence[Job], *, num_parallel: int = 1, num_threads: int | None = None
) -> Iterator[Outcome]:
    """Make every run folder, up to `num_parallel` at a time, and yield each outcome as it comes.

    A folder that is finished is not touched. A job that needs a failed one fails too. What a process writes stands
    in a ``.txt`` beside its folder. However this generator is left, no process of its own stays behind.

    jobs: in an order in which each comes after those that it needs. num_threads: of each process; None: as inherited.

    Raises:
        UserError: a process was killed or interrupted, which says nothing about its settings.
    """
    waiting, running = list(jobs), dict[Job, subprocess.Popen[str]]()
    outcomes: dict[Path, Outcome] = {}
    told: set[Path] = set()
    try:
        while waiting or running:
            ended = [_outcome(job, process) for job, process in running.items() if process.poll() is not None]
            for job in [job for job in waiting if all(path in outcomes for path in job.needs)]:
                early = _without_work(job, outcomes)
                if early is None and len(running) < num_parallel and not _is_locked(job.out, told):
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
            _stop(process)


def failures_of(
    jobs: Sequence[Job], *, num_parallel: int = 1, num_threads: int | None = None
) -> dict[Path, str]:
    """`run_jobs` to its end with progress and a line in the log for each; run folder -> problem of the failed ones."""
    outcomes = run_jobs(jobs, num_parallel=num_parallel, num_threads=num_threads)
    failures: dict[Path, str] = {}
    for number, outcome in enumerate(track(outcomes, "runs", total=len(jobs)), start=1):
        log.info("%d of %d  %s: %s", number, len(jobs), outcome.job.name, outcome.problem or "finished")
        if outcome.problem:
            failures[outcome.job.out] = outcome.problem
    return failures


def threads_of(num_parallel: int) -> int | None:
    """Threads for each of so many processes, an even share of the processor; None, as inherited, where one process has
    it all or the environment says how many."""
    if num_parallel == 1 or "OMP_NUM_THREADS" in os.environ:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // num_parallel)


def _without_work(job: Job, outcomes: Mapping[Path, Outcome]) -> Outcome | None:
    """The outcome of a job that is done already or cannot be done; None where it is to be started."""
    failed = [outcomes[path].job.name for path in job.needs if outcomes[path].problem]
    if failed:
        return Outcome(job, f"needs {', '.join(failed)}, which failed")
    return Outcome(job) if is_finished(job.out) else None


def _is_locked(out: Path, told: set[Path]) -> bool:
    """True while another process writes into the folder: one that a killed call of ours has left behind."""
    lock = out / ".lock"
    if not lock.is_file():
        return False
    with lock.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if out not in told:
                log.info("%s: another process works there still; waiting for it", out)
            told.add(out)
            return True
    return False


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
            f"{job.name}: its process was ended by {signal.Signals(number).name} (memory, time, or by hand); "
            f"see {_log_file(job)}, then give the same command again, it goes on"
        )
    return Outcome(job, _last_words(_log_file(job)))


def _last_words(path: Path) -> str:
    """The problems that a failed process told, or its last line."""
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    problems = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return "; ".join(problems or lines[-1:]) or "failed without a word"


def _stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

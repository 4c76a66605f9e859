"""Many runs from one settings file: each variant changes some settings and is a job of its own, on this machine or on a
cluster.

A call that was interrupted ends the jobs that it started, and the next call resumes their runs.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field

from cxr.cli import EXIT_INTERRUPTED
from cxr.config import UserError
from cxr.progress import track
from cxr.runs.cluster_settings import ClusterSettings
from cxr.runs.job_start import Job, JobKilledError, LocalProcesses, StartedJob, Starter
from cxr.runs.lock import is_locked
from cxr.runs.run_folder import open_run
from cxr.threads import num_cores

_THIS_MACHINE = LocalProcesses()

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
    jobs: Sequence[Job], *, num_parallel: int = 1, starter: Starter = _THIS_MACHINE
) -> Generator[Outcome, None, None]:
    """Make every run, up to `num_parallel` at a time, and yield each outcome as soon as it is known.

    Finished runs are not started again. A job that needs a failed one fails too. The output of a job goes to
    `Job.log_file`. All started jobs end with this generator, also when it is closed early and when this process
    receives SIGTERM.

    jobs: each after those that it needs.

    Raises:
        JobKilledError: a job on this machine was killed or interrupted.
        KeyboardInterrupt: this process received SIGTERM.
    """
    waiting, running = list(jobs), dict[Job, StartedJob]()
    outcomes: dict[Path, Outcome] = {}
    reported: set[Path] = set()
    with _noting_sigterm() as received:
        try:
            while waiting or running:
                if received:
                    raise KeyboardInterrupt
                ended = [*_ended(running, goes_on=not starter.shares_machine)]
                for job in [job for job in waiting if all(path in outcomes for path in job.needs)]:
                    early = _without_work(job, outcomes)
                    if early is None and len(running) < num_parallel and not _must_wait(job.out, reported):
                        running[job] = starter.start(job)
                        waiting.remove(job)
                    elif early is not None:
                        ended.append(early)
                        waiting.remove(job)
                for outcome in ended:
                    running.pop(outcome.job, None)
                    outcomes[outcome.job.out] = outcome
                    yield outcome
                time.sleep(0 if ended else starter.poll_s)
        finally:
            for started in running.values():
                started.terminate()
            for started in running.values():
                started.wait()


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


def failures_of(jobs: Sequence[Job], *, num_parallel: int = 1, starter: Starter = _THIS_MACHINE) -> dict[Path, str]:
    """Run all jobs with a progress bar and one log line per job; returns run folder -> problem of those that failed."""
    failures: dict[Path, str] = {}
    with closing(run_jobs(jobs, num_parallel=num_parallel, starter=starter)) as outcomes:
        for number, outcome in enumerate(track(outcomes, "runs", total=len(jobs)), start=1):
            how = f"{outcome.problem} (log: {outcome.job.log_file})" if outcome.problem else "finished"
            log.info("%d of %d  %s: %s", number, len(jobs), outcome.job.name, how)
            if outcome.problem:
                failures[outcome.job.out] = outcome.problem
    return failures


def place_jobs(
    cluster: ClusterSettings | None, folder: Path, *, num_parallel: int, num_threads: int | None = None
) -> tuple[Starter, int]:
    """Where jobs run, and how many at a time.

    cluster: None for this machine. folder: for the files of the cluster's engine. num_parallel, num_threads: what the
    settings of the command ask for.

    Raises:
        UserError: the cluster cannot be used from here.
    """
    if cluster is None:
        return LocalProcesses(num_threads or threads_of(num_parallel)), num_parallel
    if find_spec("submitit") is None:
        raise UserError("--cluster: the package submitit is missing; install the extra: pip install '.[cluster]'")
    from cxr.runs.cluster import ClusterJobs  # an optional package

    num_parallel = cluster.num_at_a_time(num_parallel)
    if cluster.engine == "local":
        num_threads = num_threads or threads_of(num_parallel)
    return ClusterJobs(cluster, folder, num_threads=num_threads), num_parallel


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


def _ended(running: Mapping[Job, StartedJob], *, goes_on: bool) -> Iterator[Outcome]:
    """The outcomes of jobs that have ended. goes_on: a killed job fails alone; else it is an error."""
    for job, started in running.items():
        try:
            if (code := started.exit_code()) is not None:
                yield _outcome(job, code)
        except JobKilledError as error:
            if not goes_on:
                raise
            yield Outcome(job, "; ".join(error.problems))


def _outcome(job: Job, code: int) -> Outcome:
    if code == 0:
        return Outcome(job, "" if is_finished(job.out) else "ended without a finished run")
    if code < 0 or code == EXIT_INTERRUPTED:
        number = -code if code < 0 else signal.SIGINT
        raise JobKilledError(
            f"{job.name}: its command was ended by {signal.Signals(number).name} (out of memory, out of time, or by "
            f"hand); see {job.log_file}, then run the same command again to resume"
        )
    return Outcome(job, _last_words(job.log_file))


def _last_words(path: Path) -> str:
    """The errors that a failed process printed, or else its last line."""
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    problems = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return "; ".join(problems or lines[-1:]) or "failed without a message"

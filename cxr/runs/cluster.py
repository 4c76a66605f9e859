"""Jobs of a cluster, through submitit: in the queue of SLURM, or as processes of this machine by the same path.

submitit pickles what a job runs into a folder, and the job unpickles it. So the folder belongs to this user alone, and
a pickle holds the strings of a `Command` and nothing of the environment. What a job gives back is an exit code in a
text file; this process unpickles nothing.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.helpers import Checkpointable

from cxr.cli import EXIT_INTERRUPTED
from cxr.config import UserError
from cxr.runs.cluster_settings import ClusterSettings
from cxr.runs.job_start import GRACE_S, POLL_S, Job, JobKilledError, end_process, start_process
from cxr.runs.run_folder import atomic_write_text
from cxr.runs.whole_files import next_to

_QUEUE_POLL_S = 2.0
_LONGEST_WARNING_S = 90
"""How many seconds before its time limit a job receives the signal to end, at most."""

log = logging.getLogger("raybox")


@dataclass
class Command(Checkpointable):
    """What a job does: run a command, whose output goes to a file, and write its exit code into another one.

    Before the time limit the command is ended, and the job is queued again.
    """

    command: tuple[str, ...]
    log_file: str
    exit_file: str
    num_threads: int | None = None

    def __call__(self) -> None:
        """Runs in the job, in its main thread."""
        limit = getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}")
        queue_again = signal.getsignal(limit)
        received: list[int] = []
        for number in (signal.SIGTERM, limit):
            signal.signal(number, lambda got, _: received.append(got))
        process = start_process(self.command, Path(self.log_file), num_threads=self.num_threads)
        while (code := process.poll()) is None and not received:
            time.sleep(POLL_S)
        if code is not None:
            atomic_write_text(Path(self.exit_file), f"{code}\n")
            return
        process.terminate()
        end_process(process)
        if signal.SIGTERM not in received and callable(queue_again):
            queue_again(limit, None)  # submitit's; ends this process
        sys.exit(EXIT_INTERRUPTED)


class ClusterJobs:
    """Starts each job in the cluster. See `cxr.runs.job_start.Starter`."""

    def __init__(self, settings: ClusterSettings, folder: Path, *, num_threads: int | None = None) -> None:
        """
        Args:
            folder: for the files of submitit; all machines of the cluster must see it.

        Raises:
            UserError: the folder belongs to another user, or this machine has no SLURM.
        """
        self._engine, self._num_threads = settings.engine, num_threads
        self.shares_machine = settings.engine == "local"
        self.poll_s = POLL_S if self.shares_machine else _QUEUE_POLL_S
        _make_private(folder)
        self._folder = folder
        self._executor = _executor(settings, folder)
        hours, gpus = settings.time_min / 60, settings.gpus or 0
        log.info("jobs go to %s, each with %d GPUs and at most %.3g h; files: %s", settings.engine, gpus, hours, folder)

    def start(self, job: Job) -> "ClusterJob":
        """Queue a job, or take up the one that an earlier call queued."""
        queued = next_to(job.out, ".job")
        exit_file = next_to(job.out, ".exit")
        found = self._queued_earlier(queued)
        if found is None:
            exit_file.unlink(missing_ok=True)
            queued.parent.mkdir(parents=True, exist_ok=True)
            command = Command(job.whole_command, str(job.log_file), str(exit_file), self._num_threads)
            if self._engine == "slurm":
                self._executor.update_parameters(job_name="_".join(job.name.split()))
            with _interrupts_wait():
                found = self._executor.submit(command)
            atomic_write_text(queued, f"{self._engine} {found.job_id}\n")
        else:
            log.info("%s: job %s of an earlier call is still in the queue; waiting for it", job.name, found.job_id)
        return ClusterJob(job, found, self._engine, queued, exit_file)

    def _queued_earlier(self, queued: Path) -> "submitit.Job[None] | None":
        """A job that still waits or runs. A process of this machine shows itself by the lock of its run folder."""
        if self._engine == "local" or not queued.is_file():
            return None
        engine, _, number = queued.read_text(encoding="utf-8").strip().partition(" ")
        if engine != "slurm":
            return None
        found: submitit.Job[None] = submitit.SlurmJob(self._folder, number)
        return None if found.done(force_check=True) else found


@dataclass(frozen=True)
class ClusterJob:
    """See `cxr.runs.job_start.StartedJob`. queued: file that holds its number."""

    job: Job
    submitted: "submitit.Job[None]"
    engine: str
    queued: Path
    exit_file: Path

    def exit_code(self) -> int | None:
        has_ended = self.submitted.done()
        # a shared file system may show an old state of a folder until something in it changes
        for folder in (self.job.out.parent, self.job.out):
            with suppress(OSError):
                folder.chmod(folder.stat().st_mode)
        if self.exit_file.is_file():
            code = _exit_code_in(self.exit_file)
            self.exit_file.unlink()
            self.queued.unlink(missing_ok=True)
            return code
        if not has_ended:
            return None
        self.queued.unlink(missing_ok=True)
        raise JobKilledError(
            f"{self.job.name}: job {self.submitted.job_id} of {self.engine} ended before its command did (state "
            f"{self.submitted.state}); see {self.job.log_file} and {self.submitted.paths.stderr}, then give the same "
            "command again to resume"
        )

    def terminate(self) -> None:
        if self.engine == "local":
            # submitit's own cancel leaves the job one second, too little to end what the command started
            with suppress(ProcessLookupError):
                os.kill(int(self.submitted.job_id), signal.SIGTERM)
        else:
            self.submitted.cancel(check=False)
        self.queued.unlink(missing_ok=True)

    def wait(self) -> None:
        """On SLURM a job ends within the site's KillWait; the next call waits for the lock of its run folder."""
        end = time.monotonic() + 2 * GRACE_S
        while self.engine == "local" and not self.submitted.done() and time.monotonic() < end:
            self.terminate()  # a job that was just started may have missed the first one
            time.sleep(POLL_S)


def _executor(settings: ClusterSettings, folder: Path) -> submitit.Executor:
    warning_s = min(_LONGEST_WARNING_S, int(settings.time_min * 30))
    if settings.engine == "local":
        local = submitit.LocalExecutor(folder, max_num_timeout=settings.max_restarts)
        local.update_parameters(
            timeout_min=settings.time_min, gpus_per_node=settings.gpus or 0, signal_delay_s=warning_s
        )
        return local
    try:
        slurm = submitit.SlurmExecutor(folder, max_num_timeout=settings.max_restarts)
    except RuntimeError:
        raise UserError("--cluster slurm: this machine has no srun; give the command on a login node") from None
    slurm.update_parameters(**_slurm_parameters(settings), signal_delay_s=warning_s)
    return slurm


def _slurm_parameters(settings: ClusterSettings) -> dict[str, Any]:
    """Options of sbatch, as submitit names them."""
    optional = {
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "cpus_per_task": settings.cpus,
        "mem": None if settings.memory_gb is None else f"{settings.memory_gb}GB",
        "gpus_per_node": settings.gpus or None,
        "setup": settings.setup or None,
        "additional_parameters": settings.sbatch or None,
    }
    return {"time": int(settings.time_min), **{name: value for name, value in optional.items() if value is not None}}


def _make_private(folder: Path) -> None:
    """Whoever can write into the folder can run code as this user."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"--cluster: {folder} belongs to another user or is a link; remove it, or give another --out")
    folder.chmod(0o700)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """What is started here never receives Ctrl-C of the terminal: this process ends it. Ctrl-C is not lost."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _exit_code_in(file: Path) -> int:
    text = file.read_text(encoding="utf-8", errors="replace").strip()
    try:
        return int(text)
    except ValueError:
        advice = "remove the file, then run the same command again"
        raise UserError(f"{file}: got {text[:80]!r}, expected the exit code of a job; {advice}") from None

"""One job: a command that makes one run, and how it is started, watched and ended as a process of this machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cxr.config import UserError
from cxr.runs.whole_files import next_to

POLL_S = 0.2
GRACE_S = 10.0


@dataclass(frozen=True)
class Job:
    """One run to make in the folder `out`.

    command: a script and its arguments, without ``--out``. needs: run folders that must be finished first. adds_out:
    False for a command whose arguments say where its run goes.
    """

    name: str
    out: Path
    command: tuple[str, ...]
    needs: tuple[Path, ...] = ()
    adds_out: bool = True

    @property
    def log_file(self) -> Path:
        """What the command prints, next to its run folder."""
        return next_to(self.out, ".txt")

    @property
    def whole_command(self) -> tuple[str, ...]:
        """The command as it is run."""
        return (sys.executable, *self.command, *(("--out", str(self.out)) if self.adds_out else ()))


class JobKilledError(UserError):
    """A command or its job was ended from outside, which says nothing about its settings."""


class StartedJob(Protocol):
    """A job that was started."""

    def exit_code(self) -> int | None:
        """None while the job waits or runs; negative: the number of the signal that ended its command.

        Raises:
            JobKilledError: it ended before its command did.
        """

    def terminate(self) -> None:
        """Ask the job to end. Does not wait."""

    def wait(self) -> None:
        """Wait for a job that was asked to end, and end what is left of it."""


class Starter(Protocol):
    """Where jobs run: as processes of this machine (`LocalProcesses`), which needs no further package, or as jobs of a
    cluster (`cxr.runs.cluster.ClusterJobs`).

    poll_s: seconds between two looks at the jobs. shares_machine: where one job is killed, the others end too, because
    the machine is short of something.
    """

    @property
    def poll_s(self) -> float: ...

    @property
    def shares_machine(self) -> bool: ...

    def start(self, job: Job) -> StartedJob: ...


@dataclass(frozen=True)
class LocalProcesses:
    """Each job is a process of this machine. num_threads: of each; None keeps what the environment says."""

    num_threads: int | None = None
    poll_s: float = POLL_S
    shares_machine: bool = True

    def start(self, job: Job) -> "LocalProcess":
        return LocalProcess(start_process(job.whole_command, job.log_file, num_threads=self.num_threads))


@dataclass(frozen=True)
class LocalProcess:
    """See `StartedJob`."""

    process: "subprocess.Popen[str]"

    def exit_code(self) -> int | None:
        return self.process.poll()

    def terminate(self) -> None:
        self.process.terminate()

    def wait(self) -> None:
        end_process(self.process)


def start_process(command: Sequence[str], log_file: Path, *, num_threads: int | None) -> "subprocess.Popen[str]":
    """Start a command whose output replaces `log_file`. It leads a group of its own, see `end_process`."""
    environment = dict(os.environ)
    if num_threads is not None:
        environment["OMP_NUM_THREADS"] = str(num_threads)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("w", encoding="utf-8") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )


def end_process(process: "subprocess.Popen[str]") -> None:
    """Wait for a terminated process, then kill what is left of it and of the processes that it started."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

"""Full disks and read-only folders.

`Disk` is a small file system in a namespace of its own, so that no rights are needed and nothing stays mounted.
"""

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """Writes beyond fail with EFBIG, as they fail with ENOSPC on a full disk; the last one may take a part."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


class Disk:
    """A file system in memory, mounted at `folder` for the commands of `run` alone; `seen` is its path from outside."""

    def __init__(self, folder: Path, *, kib: int) -> None:
        folder.mkdir()
        self._folder = folder
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh"]
        self._shell = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.seen = Path(f"/proc/{self._shell.pid}/root{folder}")
        self._do(f"mount -t tmpfs -o size={kib}k tmpfs '{folder}'")

    def grow(self, *, kib: int) -> None:
        """Give the file system another size."""
        self._do(f"mount -o remount,rw,size={kib}k '{self._folder}'")

    def make_read_only(self) -> None:
        """Refuse every write from now on, also of root."""
        self._do(f"mount -o remount,ro '{self._folder}'")

    def run(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        """Run a Python script with arguments inside the folder."""
        enter = ["nsenter", f"--target={self._shell.pid}", "--user", "--mount", "--preserve-credentials", "--"]
        inside = ["sh", "-c", f"cd '{self._folder}' && exec \"$@\"", "sh", sys.executable, *command]
        return subprocess.run([*enter, *inside], capture_output=True, text=True, check=False)

    def close(self) -> None:
        """Forget the file system."""
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.wait()

    def _do(self, command: str) -> None:
        assert self._shell.stdin is not None and self._shell.stdout is not None
        self._shell.stdin.write(f"{command} 2>&1; echo status $?\n")
        lines = [self._shell.stdout.readline()]
        while not lines[-1].startswith("status "):
            lines.append(self._shell.stdout.readline())
            assert lines[-1], f"the shell ended: {lines}"
        assert lines == ["status 0\n"], lines


@contextmanager
def disk_at(folder: Path, *, kib: int) -> Iterator[Disk]:
    """A `Disk` while the block runs. The test is skipped where the system lets nobody mount one."""
    probe = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "true"], capture_output=True, text=True, check=False
    )
    if probe.returncode:
        pytest.skip(f"no namespaces on this system: {probe.stderr.strip()}")
    disk = Disk(folder, kib=kib)
    try:
        yield disk
    finally:
        disk.close()

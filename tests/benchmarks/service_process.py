"""A service in a process of its own, for benchmarks and for tests of what a process does."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from tests.paths import ROOT

_START_S, _STOP_S = 60, 120


@dataclass(frozen=True)
class ServiceProcess:
    """A running process. started_s: from its start to the first lines."""

    process: psutil.Popen
    port: int
    started_s: float
    summary: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def memory_mib(self) -> float:
        """Memory that belongs to the process alone."""
        return float(self.process.memory_full_info().uss) / 2**20

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        if self.process.is_running():
            self.process.send_signal(signal.SIGTERM)
        return int(self.process.wait(timeout=_STOP_S))


@contextmanager
def running_process(
    run: Path, *arguments: str, stderr: IO[bytes] | int = subprocess.DEVNULL, **environment: str
) -> Iterator[ServiceProcess]:
    """`serve.py` on a free port."""
    command = [sys.executable, str(ROOT / "stage3_detect/serve.py"), str(run), "--port", "0", *arguments]
    begin = time.monotonic()
    process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=stderr)
    try:
        summary = ""
        while "openapi.json" not in summary:
            line = process.stdout.readline().decode()
            assert line, f"the service has ended with {process.wait(timeout=_START_S)}"
            summary += line
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", summary)
        assert found
        yield ServiceProcess(process, int(found[1]), time.monotonic() - begin, summary)
    finally:
        if process.is_running():
            process.kill()
            process.wait()
        process.stdout.close()

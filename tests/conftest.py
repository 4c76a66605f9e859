"""One thread a process: tests run beside each other on small machines, and torch's threads fight there."""

import logging
import os
from collections.abc import Iterator

from tests.paths import ROOT

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # also in the processes that tests start
os.environ["PYTHONPATH"] = str(ROOT)  # those processes import builders from `tests`

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """A command line that a test calls sets up the log for its process; the next test reads the log again."""
    yield
    log = logging.getLogger("raybox")
    log.propagate = True
    log.setLevel(logging.NOTSET)
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()

"""One thread per process: tests run in parallel on small machines, where threads of torch would compete."""

import logging
import os
from collections.abc import Generator, Iterator

from tests.paths import ROOT

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # also in the processes that tests start
os.environ["PYTHONPATH"] = str(ROOT)  # those processes import builders from `tests`

import pytest
import torch

LONG_FILES = (
    "test_pipeline.py",
    "test_distributed.py",
    "test_page.py",
    "test_formats.py",
    "test_gpu_script.py",
    "test_ablation.py",
    "test_experiment.py",
    "test_check_distributed.py",
    "test_processes.py",
    "test_sweep.py",
    "test_train.py",
    "test_trainer.py",
    "test_checkpoint.py",
    "test_exact_resume.py",
    "test_kill.py",
    "test_predict.py",
)
"""Names of the files that take long, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the long files first, so that no process is left alone with one of them at the end.

    Tests marked `cuda` are skipped without a GPU.
    """
    place = {name: number for number, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))
    without_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU")
    for item in items:
        if item.get_closest_marker("cuda") is not None:
            item.add_marker(without_gpu)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Names of files that are not UTF-8 reach the captured log, and pytest-xdist cannot send them."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """A command line or service that a test starts sets up the log for its process; the next test reads the log again.

    A handler that stayed would write into the closed stream of that test.
    """
    yield
    for log in map(logging.getLogger, ("raybox", "raybox.serving")):
        log.propagate = True
        log.setLevel(logging.NOTSET)
        for handler in list(log.handlers):
            log.removeHandler(handler)
            handler.close()

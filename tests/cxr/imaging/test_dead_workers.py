"""Workers that really die, of SIGKILL as for lack of memory and of SIGSEGV as in a decoder."""

import multiprocessing
import os
import signal

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cxr.config import UserError
from cxr.imaging.dead_workers import ReadingNow

IDS = [f"image{row}" for row in range(6)]


class Dying(Dataset[Tensor]):
    """Rows of numbers; reading the row `deadly` ends the process by a signal. While: noted as being read."""

    def __init__(self, deadly: int, number: int, *, noted: bool = True) -> None:
        self.reads, self._deadly, self._signal, self._is_noted = ReadingNow(), deadly, number, noted

    def __len__(self) -> int:
        return len(IDS)

    def __getitem__(self, row: int) -> Tensor:
        with self.reads.reading(row):
            self._die(row, noted=True)
        self._die(row, noted=False)
        return torch.tensor(row)

    def _die(self, row: int, *, noted: bool) -> None:
        if row == self._deadly and noted == self._is_noted:
            os.kill(os.getpid(), self._signal)


def read(dataset: Dying, *, num_workers: int) -> list[int]:
    with dataset.reads.deaths_named(IDS, setting="num_workers"):
        return [int(row) for batch in DataLoader(dataset, batch_size=2, num_workers=num_workers) for row in batch]


def test_without_a_death_nothing_changes() -> None:
    for num_workers in (0, 2):
        assert read(Dying(-1, signal.SIGKILL), num_workers=num_workers) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_the_image_that_a_dead_worker_was_reading_is_named(number: int) -> None:
    with pytest.raises(UserError, match=r"while it read image image3;") as told:
        read(Dying(3, number), num_workers=2)
    assert [name for name in IDS if name in str(told.value)] == ["image3"]


def test_a_death_between_two_images_names_none() -> None:
    with pytest.raises(UserError, match="while it read no image") as told:
        read(Dying(2, signal.SIGKILL, noted=False), num_workers=1)
    assert not [name for name in IDS if name in str(told.value)]


def test_other_errors_pass() -> None:
    error = RuntimeError("out of memory on the GPU")
    with pytest.raises(RuntimeError) as passed, ReadingNow().deaths_named(IDS, setting="num_workers"):
        raise error
    assert passed.value is error


def test_a_death_is_reported_once() -> None:
    """Torch raises for each worker that is dead and not reaped whenever any process ends."""
    process = multiprocessing.get_context("fork").Process(target=signal.raise_signal, args=(signal.SIGKILL,))
    process.start()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(UserError), ReadingNow().deaths_named(IDS, setting="num_workers"):
        raise RuntimeError(f"DataLoader worker (pid {process.pid}) is killed by signal: Killed. ")
    with pytest.raises(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)

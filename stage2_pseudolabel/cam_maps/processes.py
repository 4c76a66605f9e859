"""The processes that share stage 2's work: one, or as many as `torchrun` started, on one machine or several.

They share a run folder and send each other small values alone, so gloo, which needs no GPU, carries them everywhere.
"""

import logging
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

# It announces ranks and backends.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

_LONGEST_WAIT = timedelta(days=7)
"""The first process may tune box rules for an hour while the others wait; one that dies ends the wait at once."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """Which of the processes this one is, and how they wait for each other.

    fabric: has been launched. device: where this process computes; its own GPU where there are enough.
    """

    fabric: Fabric
    device: torch.device

    @property
    def rank(self) -> int:
        """In [0, count), over all machines."""
        return int(self.fabric.global_rank)

    @property
    def count(self) -> int:
        return int(self.fabric.world_size)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until all processes are here."""
        self.fabric.barrier()

    def from_first(self, value: Value) -> Value:
        """The first process's value, in all of them; any object that can be pickled."""
        return self.fabric.broadcast(value)


def make_processes() -> Processes:
    """This process alone, or those that ``torchrun`` started."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    num_nodes = int(os.environ.get("WORLD_SIZE", "1")) // local
    strategy: DDPStrategy | str = "auto"
    if local * num_nodes > 1:
        strategy = DDPStrategy(process_group_backend="gloo", timeout=_LONGEST_WAIT)
    # "cpu" is where the messages are; the maps are made on `device`.
    fabric = Fabric(accelerator="cpu", devices=local, num_nodes=num_nodes, strategy=strategy)
    fabric.launch()
    return Processes(fabric, _device(fabric.local_rank))


def _device(local_rank: int) -> torch.device:
    """GPUs are handed out in turn; Apple's are passed over, which lack the float64 that some methods take."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device

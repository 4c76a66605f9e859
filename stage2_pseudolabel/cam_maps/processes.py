"""The processes that share the work of stage 2: one, or those that `torchrun` started on one machine or several.

They share a run folder and send each other only small values, so gloo is enough, which needs no GPU.
"""

import logging
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

# Fabric logs ranks and backends.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

_LONGEST_WAIT = timedelta(days=7)
"""The others wait while the first process tunes box rules. If a process dies, the wait ends at once."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """This process among the others. fabric: launched. device: its own GPU where there are enough."""

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
        """Wait for all processes."""
        self.fabric.barrier()

    def from_first(self, value: Value) -> Value:
        """The first process's value, in all processes; any object that can be pickled."""
        return self.fabric.broadcast(value)


def make_processes() -> Processes:
    """This process alone, or those that ``torchrun`` started."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    num_nodes = int(os.environ.get("WORLD_SIZE", "1")) // local
    strategy: DDPStrategy | str = "auto"
    if local * num_nodes > 1:
        strategy = DDPStrategy(process_group_backend="gloo", timeout=_LONGEST_WAIT)
    # the messages are on the CPU; the maps are computed on `device`
    fabric = Fabric(accelerator="cpu", devices=local, num_nodes=num_nodes, strategy=strategy)
    fabric.launch()
    return Processes(fabric, _device(fabric.local_rank))


def _device(local_rank: int) -> torch.device:
    """GPUs are assigned in turn; not Apple's, which lack the float64 that some methods need."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device

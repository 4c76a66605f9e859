"""Our trainer on two processes of the CPU, for test_stage3_distributed. Ultralytics pickles the class by its name and
its processes import it from here, so this file must stand on its own.

Ultralytics trains in several processes on GPUs only; what is overridden here is what has to do with that: how many
devices there are, the backend, and two calls that gloo does not know. All else is the way that GPUs go: ultralytics'
command, its script and pickle, its loops; our trainer, data set, loss and report.
"""

import json
import os
from typing import Any

import torch
from torch import distributed, nn

from stage3_detect.training.trainer import PseudoBoxTrainer

NUM_PROCESSES = 2
RANK, LOCAL_RANK = (int(os.environ.get(name, "-1")) for name in ("RANK", "LOCAL_RANK"))


class CpuParallel(nn.parallel.DistributedDataParallel):
    """Without the number of a GPU."""

    def __init__(self, module: nn.Module, device_ids: Any = None, **options: Any) -> None:
        super().__init__(module, **options)


def _reduced_to_mean(tensor: torch.Tensor, dst: int, op: Any) -> None:
    assert op == distributed.ReduceOp.AVG
    _reduce(tensor, dst=dst, op=distributed.ReduceOp.SUM)
    tensor /= NUM_PROCESSES


_reduce = distributed.reduce


class PairTrainer(PseudoBoxTrainer):
    """Two processes, gloo; each writes what it saw beside `save_dir`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.world_size, self.ddp = NUM_PROCESSES, LOCAL_RANK == -1
        self.seen: list[tuple[int, int]] = []

    def _setup_ddp(self) -> None:
        distributed.init_process_group("gloo", rank=RANK, world_size=self.world_size)
        nn.parallel.DistributedDataParallel = CpuParallel
        distributed.reduce = _reduced_to_mean

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """As ours, and notes the boxes and regions of the batch."""
        batch = super().preprocess_batch(batch)
        regions = int(batch["label_noise"][:, 1].sum())
        self.seen.append((len(batch["label_noise"]) - regions, regions))
        return batch

    def final_eval(self) -> None:
        """Leaves this process's weights and facts behind."""
        out = self.save_dir.parent
        torch.save(self.model.module.state_dict(), out / f"weights{RANK}.pt")
        facts = {
            "seen": self.seen,
            "shared_iou": self.model.module.shared_iou,
            "offline": [os.environ.get("YOLO_OFFLINE"), os.environ.get("YOLO_CONFIG_DIR")],
            "fitness": self.fitness,
        }
        (out / f"facts{RANK}.json").write_text(json.dumps(facts), encoding="utf-8")
        super().final_eval()

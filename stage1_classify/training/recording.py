"""A short training that keeps what each step did, so that it can be compared with another one."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file
from torch import Tensor

from cxr.metrics import Metrics
from stage1_classify.data.batches import Batch, Split
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.training.processes import gather
from stage1_classify.training.sampling import make_sampler
from stage1_classify.training.trainer import Trainer

NUM_EPOCHS, NUM_STEPS = 2, 3

_SMALLER_RATE = 0.01
"""The learning rate is multiplied by this. At the full rate, optimizers such as Adam amplify the rounding of a gradient
near 0, and after a few steps the trainings differ although both are right."""

_START = "start"
_GRADIENT, _WEIGHT, _STATISTIC = "gradient ", "weight ", "statistic "


@dataclass(frozen=True)
class Step:
    """An optimizer step. cases: of all processes, sorted. loss: sum over the step's batches."""

    name: str
    cases: list[int]
    loss: float


@dataclass(frozen=True)
class Record:
    """A recorded training. figures: validation results by moment, the first before any step."""

    folder: Path
    steps: list[Step]
    figures: dict[str, Metrics]

    def gradients(self, step: Step) -> dict[str, Tensor]:
        """By parameter, as the optimizer got them."""
        return self._tensors(step.name, _GRADIENT)

    def statistics(self, step: Step) -> dict[str, Tensor]:
        """Running statistics of the norms after the step."""
        return self._tensors(step.name, _STATISTIC)

    def updates(self, step: Step) -> dict[str, Tensor]:
        """What the step added to each parameter."""
        place = self.steps.index(step)
        before = self._tensors(self.steps[place - 1].name if place else _START, _WEIGHT)
        return {name: tensor - before[name] for name, tensor in self._tensors(step.name, _WEIGHT).items()}

    def _tensors(self, name: str, kind: str) -> dict[str, Tensor]:
        tensors = load_file(self.folder / f"{name}.safetensors")
        return {name.removeprefix(kind): tensor for name, tensor in tensors.items() if name.startswith(kind)}


class RecordingTrainer(Trainer):
    """Writes each optimizer step of the first process into the run folder."""

    def __init__(self, fabric: Fabric, train: Split, settings: Stage1Settings, run_dir: Path) -> None:
        super().__init__(fabric, train, settings, run_dir)
        self.steps: list[Step] = []
        self._save(_START)

    def _step(self, batches: Sequence[Batch], number: int) -> Tensor:
        total = super()._step(batches, number)
        own = [case for batch in batches for case in batch.indices.tolist()]
        cases = sorted(case for part in gather(own) for case in part)
        step = Step(f"epoch {self.progress.epoch + 1} step {number}", cases, float(total[0]))
        self.steps.append(step)
        self._save(step.name)
        return total

    def _save(self, name: str) -> None:
        """Gradients, weights and statistics of the model; gradients stay until the next step."""
        if not self._fabric.is_global_zero:
            return
        named = dict(self.model.named_parameters())
        tensors = {f"{_GRADIENT}{name}": p.grad for name, p in named.items() if p.grad is not None}
        tensors |= {f"{_WEIGHT}{name}": p for name, p in named.items()}
        tensors |= {f"{_STATISTIC}{name}": b for name, b in self.model.named_buffers() if b.is_floating_point()}
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(kept, self._run_dir / f"{name}.safetensors")


def record(fabric: Fabric, splits: Mapping[str, Split], settings: Stage1Settings, folder: Path) -> None:
    """Train two short epochs and write `folder`/record.json and one file per step."""
    trainer = RecordingTrainer(fabric, splits["train"], shortened(settings, splits["train"]), folder)
    figures = {"before training": trainer.validate(splits["val"])}
    for epoch in range(1, NUM_EPOCHS + 1):
        trainer.train_epoch()
        figures[f"after epoch {epoch}"] = trainer.validate(splits["val"])
        trainer.progress.epoch = epoch
    if fabric.is_global_zero:
        content = {"steps": [asdict(step) for step in trainer.steps], "figures": figures}
        (folder / "record.json").write_text(json.dumps(content), encoding="utf-8")
    fabric.barrier()


def read_record(folder: Path) -> Record:
    """What `record` wrote."""
    content: dict[str, Any] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    return Record(folder, [Step(**step) for step in content["steps"]], content["figures"])


def shortened(settings: Stage1Settings, train: Split) -> Stage1Settings:
    """The first epochs of a training with at most `NUM_STEPS` steps an epoch.

    An epoch ends with an incomplete batch and an incomplete step where the data and train.accumulate_steps allow both.
    Dropout, which draws differently in each process by design, is off.
    """
    batch_size, accumulate = settings.train.batch_size, settings.train.accumulate_steps
    num_cases = len(make_sampler(train.targets, settings, sets=train.sets)) * batch_size
    wanted = (NUM_STEPS * accumulate - accumulate // 2) * batch_size + batch_size // 2
    changes = {
        "sampling": {"num_samples": wanted} if wanted < num_cases else {},
        "head": {"dropout": 0.0},
        "optimizer": {"learning_rate": settings.optimizer.learning_rate * _SMALLER_RATE},
        "backbone": {"drop_path_rate": 0.0} if settings.backbone.drop_path_rate else {},
    }
    sections = {name: getattr(settings, name).model_copy(update=values) for name, values in changes.items()}
    return settings.model_copy(update=sections)


def largest_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> tuple[float, str]:
    """The difference of two sets of tensors by the norm of all of them, and the name that differs most.

    0 and "" if they are equal; infinity where names differ or a value is not finite.
    """
    if one.keys() != other.keys():
        return float("inf"), min(one.keys() ^ other.keys())
    errors = {name: float((other[name].double() - one[name].double()).norm()) for name in one}
    norm = float(torch.stack([tensor.double().norm() for tensor in one.values()]).norm()) if one else 0.0
    total = sum(error**2 for error in errors.values()) ** 0.5
    if total == 0:
        return 0.0, ""
    worst = max(errors, key=lambda name: errors[name])
    return _ratio(total, norm), worst


def _ratio(value: float, of: float) -> float:
    ratio = value / of if of else math.inf
    return math.inf if math.isnan(ratio) else ratio

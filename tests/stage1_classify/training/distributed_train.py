"""Trainings for test_stage1_distributed, run by torchrun: ``distributed_train.py DATA OUT NAME ...``.

A name is one of SCENARIOS, which ends in a run folder; "interrupted", which is "dropout" killed once; "whole": all of
stage 1 with the settings of ``DATA/stage1.yaml``; "computation": then the precision and memory format of each process
go to ``OUT/computation.<rank>.txt``; or one of BROKEN: then something is broken on purpose, and what each process says
of it goes to ``OUT/<name>.<rank>.txt``.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from lightning_fabric import Fabric
from torch import distributed, nn

from cxr.cli import parse_stage_arguments
from cxr.config import UserError
from cxr.runs.run_folder import start_run
from stage1_classify.data.batches import TrainingSet
from stage1_classify.run import main as run_stage
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.training import computation, trainer
from stage1_classify.training.computation import with_computation
from stage1_classify.training.fabric import make_fabric
from stage1_classify.training.sampling import EpochSampler, make_sampler
from stage1_classify.training.trainer import Trainer
from tests.stage1_classify.stage1_builders import stage1_settings
from tests.stage1_classify.training.train_builders import PLAIN, fitted

NORMS = {"name": "resnet10t", "feature_stage": 2}

SCENARIOS: dict[str, dict[str, Any]] = {
    "plain": {},
    "weighted": {"sampling": {"num_samples": 20, "normal_weight": 0.2}, "train": {"accumulate_steps": 2}},
    "averaged": {"train": {"ema_decay": 0.5}},
    "frozen": {"freeze": {"backbone_epochs": 1, "gradual_epochs": 1}, "train": {"num_epochs": 3}},
    "views": {"views": {"max_views": 2}, "data": {"table": "studies.csv"}},
    "dropout": {"head": {"dropout": 0.5}, "backbone": NORMS, "train": {"num_epochs": 3}},
    "norms": {"backbone": NORMS, "freeze": {"gradual_epochs": 1}, "train": {"num_epochs": 3, "ema_decay": 0.5}},
    "mixed": {"backbone": NORMS, "train": {"precision": "bf16"}},
}

# A seed that gives the processes pictures of other findings in the first batch: else their gradients would be alike.
UNLIKE = {"seed": 1}


def settings_of(data: Path, name: str) -> Stage1Settings:
    """20 cases per epoch in 3 batches of 6: two are left out, and with two batches per step the last step has one."""
    changes = SCENARIOS.get(name, UNLIKE)
    table = {"table": "labels.csv", **changes.get("data", {})}
    columns = {"image": "path", "patient": "patient"}
    if "views" in changes:
        columns |= {"study": "study", "view": "view"}
    findings = {finding: finding for finding in ("Lung Lesion", "Pleural Effusion")}
    given = {
        "augment": PLAIN,
        "sampling": {"num_samples": 20},
        **changes,
        "data": {"dataset": "csv_table", "root": str(data), "columns": columns, "findings": findings, **table},
        "optimizer": {"learning_rate": 1e-3},
        "train": {"batch_size": 6, "precision": "fp32", "num_epochs": 2, **changes.get("train", {})},
    }
    return stage1_settings(data, **given)


@contextmanager
def other_weights() -> Iterator[None]:
    """The second process begins with weights of its own."""

    def change(wrapped: Any) -> None:
        if distributed.get_rank() == 1:
            with torch.no_grad():
                wrapped.module.model.head.classifier.weight[0, 0] += 1e-3

    with after_setup(change):
        yield


@contextmanager
def own_gradients() -> Iterator[None]:
    """Nobody averages: each process follows its own gradients."""

    def change(wrapped: Any) -> None:
        wrapped._forward_module.require_backward_grad_sync = False

    with after_setup(change):
        yield


@contextmanager
def summed_gradients() -> Iterator[None]:
    """Gradients are added up and not averaged."""

    def sum_up(_: object, bucket: distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
        work = distributed.all_reduce(bucket.buffer(), async_op=True)
        return work.get_future().then(lambda future: future.value()[0])

    with after_setup(lambda wrapped: wrapped._forward_module.register_comm_hook(None, sum_up)):
        yield


@contextmanager
def same_cases() -> Iterator[None]:
    """Both processes take the first one's cases."""

    def sampler(targets: Any, settings: Stage1Settings, *, sets: Any, rank: int, world_size: int) -> EpochSampler:
        return make_sampler(targets, settings, sets=sets, rank=0, world_size=world_size)

    with mock.patch.object(trainer, "make_sampler", sampler):
        yield


@contextmanager
def drift() -> Iterator[None]:
    """In its second epoch the second process's weights change a little on their own."""
    original = Trainer._step

    def step(self: Trainer, *arguments: Any) -> torch.Tensor:
        loss = original(self, *arguments)
        if self.progress.epoch == 1 and distributed.get_rank() == 1:
            with torch.no_grad():
                self.model.backbone.network.stem_0.bias[0] += 1e-6
        return loss

    with mock.patch.object(Trainer, "_step", step):
        yield


@contextmanager
def poisoned_picture() -> Iterator[None]:
    """One picture is not finite; a single process has it in its batch."""
    original = TrainingSet._augmented

    def augmented(self: TrainingSet, row: int) -> torch.Tensor:
        return original(self, row) / (0.0 if row == 3 else 1.0)

    with mock.patch.object(TrainingSet, "_augmented", augmented):
        yield


@contextmanager
def after_setup(change: Callable[[Any], None]) -> Iterator[None]:
    original = Fabric.setup_module

    def setup_module(self: Fabric, module: nn.Module) -> Any:
        wrapped = original(self, module)
        change(wrapped)
        return wrapped

    with mock.patch.object(Fabric, "setup_module", setup_module):
        yield


BROKEN = {
    break_it.__name__: break_it
    for break_it in (other_weights, own_gradients, summed_gradients, same_cases, drift, poisoned_picture)
}


def interrupted(data: Path, out: Path, fabric: Fabric) -> None:
    """The scenario "dropout", killed when its second epoch is trained and not yet kept."""
    original = Trainer.end_epoch

    def end_epoch(self: Trainer, figures: dict[str, float | None]) -> None:
        if self.progress.epoch == 1:
            raise KeyboardInterrupt
        original(self, figures)

    with mock.patch.object(Trainer, "end_epoch", end_epoch), suppress(KeyboardInterrupt):
        fitted(settings_of(data, "dropout"), out, fabric)
    fitted(settings_of(data, "dropout"), out, fabric)


def choose_computation(data: Path, out: Path, fabric: Fabric) -> None:
    """The first process finds the last option fastest; the second one would take the first option."""
    plain = settings_of(data, "plain")
    is_open = plain.train.model_copy(update={"precision": "auto", "memory_format": "auto"})
    settings = plain.model_copy(update={"train": is_open})
    run = start_run(out / "computation", stage="stage1", settings=settings, inputs={}, processes=fabric)
    place = -1 if fabric.is_global_zero else 0
    with mock.patch.object(computation, "fastest", lambda seconds: list(seconds)[place]):
        train = with_computation(run, settings, fabric).train
    (out / f"computation.{fabric.global_rank}.txt").write_text(f"{train.precision} {train.memory_format}")


def main(data: Path, out: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    fabric = make_fabric(settings_of(data, "plain"))
    for name in names:
        if name in SCENARIOS:
            fitted(settings_of(data, name), out / name, fabric)
            continue
        if name == "interrupted":
            interrupted(data, out / name, fabric)
            continue
        if name == "whole":
            run_stage(parse_stage_arguments("stage1", [str(data / "stage1.yaml"), "--out", str(out / name)]))
            continue
        if name == "computation":
            choose_computation(data, out, fabric)
            continue
        said = "nothing\n"
        with BROKEN[name]():
            try:
                fitted(settings_of(data, "broken"), out / name, fabric)
            except UserError as error:
                said = "\n".join(error.problems)
        (out / f"{name}.{fabric.global_rank}.txt").write_text(said)
    fabric.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])

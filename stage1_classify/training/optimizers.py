"""The optimizer and its learning rate schedule, both from torch."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from stage1_classify.settings.training import OptimizerSettings, ScheduleSettings
from stage1_classify.training.freezing import parts_of

_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": AdamW,
    "adam": Adam,
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}

_HEAD = -1
"""Stands for the head among the stages of the backbone, which count from 0."""

_OF_A_SCHEDULE = ("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum")
"""What torch's schedulers keep in parameter groups, and would find there again."""


def make_optimizer(model: nn.Module, settings: OptimizerSettings) -> Optimizer:
    """The optimizer of a classifier; its first parameter group is the head's."""
    options = {"momentum": settings.momentum} if settings.kind in ("sgd", "rmsprop") else {}
    return _OPTIMIZERS[settings.kind](parameter_groups(model, settings), **options)


def parameter_groups(model: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """The head's groups, then the backbone's; with layer_decay those of its stages, the last stage first.

    Each part has a group with weight decay before one without. Vectors (biases, norms, scales) have none, nor have the
    position tables that timm exempts. Call it before anything is frozen.
    """
    exempt = {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if hasattr(module, "no_weight_decay")
        for name in module.no_weight_decay()
    }
    depths = _depths(model, settings)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue  # a table that timm never trains
        is_plain = parameter.ndim <= 1 or name in exempt
        groups.setdefault((depths.get(parameter, _HEAD), is_plain), []).append(parameter)
    return [
        {
            "params": groups[depth, is_plain],
            "lr": settings.learning_rate * _scale(depth, settings),
            "weight_decay": 0.0 if is_plain else settings.weight_decay,
        }
        for depth, is_plain in sorted(groups)
    ]


def _depths(model: nn.Module, settings: OptimizerSettings) -> dict[nn.Parameter, int]:
    """Per parameter of the backbones the number of stages between it and the head; 0 where all learn alike."""
    children = dict(model.named_children())
    backbones = [children[name] for name in ("backbone", "lateral_backbone") if name in children]
    if settings.layer_decay == 1:
        return {parameter: 0 for backbone in backbones for parameter in backbone.parameters()}
    return {
        parameter: depth
        for backbone in backbones
        for depth, part in enumerate(reversed(parts_of(backbone)))
        for parameter in part.parameters
    }


def _scale(depth: int, settings: OptimizerSettings) -> float:
    """The rate of a part divided by the head's."""
    return 1.0 if depth == _HEAD else settings.backbone_scale * settings.layer_decay**depth


class Schedule:
    """A torch scheduler that is stepped after each optimizer step or after each epoch, as its kind needs.

    Args:
        make: a scheduler that starts from the current rates of the optimizer.
        factors: of all rates in each cycle of `cycle_epochs`, each with a new scheduler; empty: a single one.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        make: Callable[[Optimizer], LRScheduler],
        *,
        every_step: bool,
        factors: Sequence[float] = (),
        cycle_epochs: int = 1,
    ) -> None:
        self._optimizer, self._make, self._every_step = optimizer, make, every_step
        self._factors, self._cycle_epochs = factors, cycle_epochs
        self._highest = [group["lr"] for group in optimizer.param_groups]
        self._scheduler = make(optimizer)

    def begin_epoch(self, epoch: int) -> None:
        """Call before `epoch` (from 0). Starts a new cycle where one begins."""
        if not self._factors or epoch % self._cycle_epochs:
            return
        factor = self._factors[epoch // self._cycle_epochs]
        for group, rate in zip(self._optimizer.param_groups, self._highest, strict=True):
            for key in _OF_A_SCHEDULE:
                group.pop(key, None)
            group["lr"] = rate * factor
        self._scheduler = self._make(self._optimizer)

    @property
    def rate(self) -> float:
        """The current learning rate of the head."""
        return float(self._scheduler.get_last_lr()[0])

    def after_step(self) -> None:
        """Call after each optimizer step that was not skipped."""
        if self._every_step:
            self._scheduler.step()

    def after_epoch(self, score: float | None) -> None:
        """Call after each validation. `score`: higher is better; None: the epoch does not count."""
        if isinstance(self._scheduler, ReduceLROnPlateau):
            if score is not None:
                self._scheduler.step(score)
        elif not self._every_step:
            self._scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self._scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._scheduler.load_state_dict(state)


def make_schedule(
    optimizer: Optimizer,
    settings: ScheduleSettings,
    *,
    num_epochs: int,
    steps_per_epoch: int,
    cycle_epochs: int | None = None,
) -> Schedule:
    """The schedule of all parameter groups, each relative to its own highest rate.

    cycle_epochs: for settings.cycle_factors, the epochs of each cycle.

    one_cycle (Smith and Topin 2019, arXiv:1708.07120) rises to the highest rate and falls along cosines. cosine is
    (1 + cos(pi t / T)) / 2 after t of T steps, warm_restarts the same in each cycle (Loshchilov and Hutter 2017,
    arXiv:1608.03983). step is factor^(t // step_epochs) after t epochs. plateau: see ScheduleSettings.
    """
    factors = settings.cycle_factors or ()
    cycle_epochs = cycle_epochs if factors and cycle_epochs else num_epochs
    num_steps = cycle_epochs * steps_per_epoch
    kinds: dict[str, Callable[[Optimizer], LRScheduler]] = {
        "one_cycle": partial(_one_cycle, settings=settings, num_steps=num_steps),
        "cosine": partial(CosineAnnealingLR, T_max=num_steps),
        "warm_restarts": partial(CosineAnnealingWarmRestarts, T_0=settings.restart_epochs * steps_per_epoch),
        "step": partial(StepLR, step_size=settings.step_epochs, gamma=settings.factor),
        "plateau": partial(
            ReduceLROnPlateau,
            mode="max",
            factor=settings.factor,
            patience=settings.plateau_patience_epochs - 1,  # torch waits one epoch longer
            threshold=0.0,  # any better score counts, as for early stopping
            threshold_mode="abs",
        ),
        "constant": partial(ConstantLR, factor=1.0, total_iters=0),
    }
    every_step = settings.kind in ("one_cycle", "cosine", "warm_restarts")
    return Schedule(optimizer, kinds[settings.kind], every_step=every_step, factors=factors, cycle_epochs=cycle_epochs)


def _one_cycle(optimizer: Optimizer, settings: ScheduleSettings, num_steps: int) -> OneCycleLR:
    steps = max(3, num_steps)  # a cycle needs a step up, a step down and an end
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=steps,
        pct_start=max(settings.warmup_share, 2 / steps),
        cycle_momentum="betas" in optimizer.defaults,  # the momentum of sgd and rmsprop is a setting, and stays
    )

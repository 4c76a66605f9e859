"""The optimiser and the schedule of its rates, all of them torch's own."""

from collections.abc import Callable, Iterator
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

_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": AdamW,
    "adam": Adam,
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}
_WITH_MOMENTUM = ("sgd", "rmsprop")

# A cycle needs a step up, a step down and an end.
_SHORTEST_CYCLE = 3


def make_optimizer(model: nn.Module, settings: OptimizerSettings) -> Optimizer:
    """The optimiser of a classifier; its first parameter group is of the head."""
    options = {"momentum": settings.momentum} if settings.kind in _WITH_MOMENTUM else {}
    return _OPTIMIZERS[settings.kind](parameter_groups(model, settings), **options)


def parameter_groups(model: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Up to four groups: head before backbone, in both what decays before what does not; nothing is frozen yet.

    Biases, norms and scales, that is all vectors, do not decay, nor what timm exempts (tables of positions).
    """
    exempt = set(_exempt_from_decay(model))
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {
        (in_backbone, is_plain): [] for in_backbone in (False, True) for is_plain in (False, True)
    }
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue  # a table that timm never trains
        is_plain = parameter.ndim <= 1 or name in exempt
        groups[name.startswith("backbone."), is_plain].append(parameter)
    return [
        {
            "params": parameters,
            "lr": settings.learning_rate * (settings.backbone_scale if in_backbone else 1.0),
            "weight_decay": 0.0 if is_plain else settings.weight_decay,
        }
        for (in_backbone, is_plain), parameters in groups.items()
        if parameters
    ]


def _exempt_from_decay(model: nn.Module) -> Iterator[str]:
    for prefix, module in model.named_modules():
        names = getattr(module, "no_weight_decay", None)
        if names is not None:
            yield from (f"{prefix}.{name}" for name in names())


class Schedule:
    """A torch scheduler that is stepped after each optimizer step or after each epoch, as its kind needs."""

    def __init__(self, scheduler: LRScheduler, *, every_step: bool) -> None:
        self._scheduler, self._every_step = scheduler, every_step

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
    optimizer: Optimizer, settings: ScheduleSettings, *, num_epochs: int, steps_per_epoch: int
) -> Schedule:
    """The schedule of all parameter groups. Each keeps its share of the highest rate.

    After t of T steps, or t epochs: one_cycle (Smith and Topin 2019, arXiv:1708.07120) rises to the highest
    rate and falls along cosines; cosine is (1 + cos(pi t / T)) / 2 of it, warm_restarts the same over each cycle
    (Loshchilov and Hutter 2017, arXiv:1608.03983); step is factor^(t // step_epochs); plateau multiplies by factor
    after each `plateau_patience_epochs` epochs without improvement.
    """
    num_steps = num_epochs * steps_per_epoch
    kinds: dict[str, Callable[[Optimizer], LRScheduler]] = {
        "one_cycle": partial(_one_cycle, settings=settings, num_steps=num_steps),
        "cosine": partial(CosineAnnealingLR, T_max=num_steps),
        "warm_restarts": partial(CosineAnnealingWarmRestarts, T_0=settings.restart_epochs * steps_per_epoch),
        "step": partial(StepLR, step_size=settings.step_epochs, gamma=settings.factor),
        "plateau": partial(_plateau, settings=settings),
        "constant": partial(ConstantLR, factor=1.0, total_iters=0),
    }
    every_step = settings.kind in ("one_cycle", "cosine", "warm_restarts")
    return Schedule(kinds[settings.kind](optimizer), every_step=every_step)


def _one_cycle(optimizer: Optimizer, settings: ScheduleSettings, num_steps: int) -> OneCycleLR:
    steps = max(_SHORTEST_CYCLE, num_steps)
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=steps,
        pct_start=max(settings.warmup_share, 2 / steps),
        cycle_momentum="betas" in optimizer.defaults,  # the momentum of sgd and rmsprop is a setting, and stays
    )


def _plateau(optimizer: Optimizer, settings: ScheduleSettings) -> ReduceLROnPlateau:
    """Any better score counts, as for early stopping; torch's patience is one less than the epochs until the fall."""
    return ReduceLROnPlateau(
        optimizer,
        mode="max",
        factor=settings.factor,
        patience=settings.plateau_patience_epochs - 1,
        threshold=0.0,
        threshold_mode="abs",
    )

"""The optimizer and its learning rate schedule, both from torch."""

from collections.abc import Callable
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


def make_optimizer(model: nn.Module, settings: OptimizerSettings) -> Optimizer:
    """The optimizer of a classifier; its first parameter group is the head's."""
    options = {"momentum": settings.momentum} if settings.kind in ("sgd", "rmsprop") else {}
    return _OPTIMIZERS[settings.kind](parameter_groups(model, settings), **options)


def parameter_groups(model: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Up to four groups: the head's before the backbone's, each with weight decay before without.

    All vectors (biases, norms, scales) have no weight decay, nor do the position tables that timm exempts. Call it
    before anything is frozen.
    """
    exempt = {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if hasattr(module, "no_weight_decay")
        for name in module.no_weight_decay()
    }
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
    """The schedule of all parameter groups, each relative to its own highest rate.

    one_cycle (Smith and Topin 2019, arXiv:1708.07120) rises to the highest rate and falls along cosines. cosine is
    (1 + cos(pi t / T)) / 2 after t of T steps, warm_restarts the same in each cycle (Loshchilov and Hutter 2017,
    arXiv:1608.03983). step is factor^(t // step_epochs) after t epochs. plateau: see ScheduleSettings.
    """
    num_steps = num_epochs * steps_per_epoch
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
    return Schedule(kinds[settings.kind](optimizer), every_step=every_step)


def _one_cycle(optimizer: Optimizer, settings: ScheduleSettings, num_steps: int) -> OneCycleLR:
    steps = max(3, num_steps)  # a cycle needs a step up, a step down and an end
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=steps,
        pct_start=max(settings.warmup_share, 2 / steps),
        cycle_momentum="betas" in optimizer.defaults,  # the momentum of sgd and rmsprop is a setting, and stays
    )

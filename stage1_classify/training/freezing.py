"""Which parts of the network are trained in which epoch. It depends on the epoch only, so nothing is saved."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from stage1_classify.settings.training import FreezeSettings


@dataclass(frozen=True)
class Part:
    """A part of the backbone that is frozen or trained as a whole.

    modules: without their submodules. parameters: of the modules, except those that timm never trains (fixed tables).
    """

    name: str
    modules: tuple[nn.Module, ...]
    parameters: tuple[nn.Parameter, ...]


class Freezing:
    """Freezes and unfreezes backbones of one kind by epoch, as FreezeSettings say. The head is always trained.

    After hierarchy.conditional_epochs the whole backbone stays frozen.
    """

    def __init__(
        self, backbones: Sequence[nn.Module], settings: FreezeSettings, *, conditional_epochs: int = 0
    ) -> None:
        self._parts = [_together(parts) for parts in zip(*map(parts_of, backbones), strict=True)]
        self._settings, self._conditional_epochs = settings, conditional_epochs
        self._num_learning: int | None = None

    def begin(self, epoch: int) -> bool:
        """Freeze and unfreeze parts for `epoch` (from 0). True at first and if anything changes."""
        is_fixed = 0 < self._conditional_epochs <= epoch
        number = 0 if is_fixed else num_learning_parts(epoch, self._settings, num_parts=len(self._parts))
        before, self._num_learning = self._num_learning, number
        for index, part in enumerate(reversed(self._parts)):
            for parameter in part.parameters:
                parameter.requires_grad_(index < self._num_learning)
        return before != self._num_learning

    def keep_statistics(self) -> None:
        """Put frozen parts back into evaluation mode (fixed norms, no dropout). Call it after ``model.train()``."""
        assert self._num_learning is not None, "begin() comes first"
        for part in self._parts[: len(self._parts) - self._num_learning]:
            for module in part.modules:
                module.training = False

    @property
    def learning(self) -> list[str]:
        """Names of the trained parts, from the head downwards."""
        return ["head", *(part.name for part in self._parts[::-1][: self._num_learning])]

    @property
    def is_partial(self) -> bool:
        """Whether something is frozen."""
        return self._num_learning != len(self._parts)


def num_learning_parts(epoch: int, settings: FreezeSettings, *, num_parts: int) -> int:
    """How many parts of the backbone, counted from the head, are trained in `epoch` (from 0)."""
    if settings.keep_backbone:
        return 0
    since_start = epoch if settings.cycle_epochs is None else epoch % settings.cycle_epochs
    awake_epochs = since_start - settings.backbone_epochs
    if awake_epochs < 0:
        return 0
    if settings.gradual_epochs is None:
        return num_parts
    return min(num_parts, 1 + awake_epochs // settings.gradual_epochs)


def parts_of(backbone: nn.Module) -> list[Part]:
    """The backbone in parts, input first: one per stage in timm's `feature_info`, or one per child without such a list.

    The layers before the first stage belong to it, those after the last stage to the last one.
    """
    names = [name for name, _ in backbone.named_modules()]
    ends = _stage_ends(backbone, names) or _children_with_parameters(backbone) or ["network"]
    parts: list[list[nn.Module]] = [[] for _ in ends]
    index, is_inside = 0, False
    for name, module in backbone.named_modules():
        belongs = _is_in(name, ends[index])
        if is_inside and not belongs and index + 1 < len(ends):
            index, belongs = index + 1, _is_in(name, ends[index + 1])
        is_inside = belongs
        parts[index].append(module)
    short = [end.removeprefix("network.").removeprefix("model.") for end in ends]
    return [Part(name, tuple(modules), _learnable(modules)) for name, modules in zip(short, parts, strict=True)]


def _together(parts: Sequence[Part]) -> Part:
    """The same part of several backbones as one."""
    return Part(
        parts[0].name,
        tuple(module for part in parts for module in part.modules),
        tuple(parameter for part in parts for parameter in part.parameters),
    )


def _learnable(modules: Iterable[nn.Module]) -> tuple[nn.Parameter, ...]:
    own = (parameter for module in modules for parameter in module.parameters(recurse=False))
    return tuple(parameter for parameter in own if parameter.requires_grad)


def _stage_ends(backbone: nn.Module, names: Iterable[str]) -> list[str]:
    """Names of the modules that end timm's stages, as they are called here: its feature extractors rename them."""
    information = getattr(getattr(backbone, "network", None), "feature_info", [])
    stages = [stage["module"].replace(".", "_") for stage in getattr(information, "info", information)]
    flat = {name.replace(".", "_"): name for name in names}
    found = [flat.get(f"network_{stage}") or flat.get(f"network_model_{stage}") for stage in stages]
    return [name for name in found if name is not None]


def _children_with_parameters(backbone: nn.Module) -> list[str]:
    network = getattr(backbone, "network", backbone)
    prefix = "network." if network is not backbone else ""
    return [f"{prefix}{name}" for name, child in network.named_children() if any(True for _ in child.parameters())]


def _is_in(name: str, end: str) -> bool:
    return name == end or name.startswith(f"{end}.")

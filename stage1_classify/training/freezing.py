"""Which parts of the network are trained in which epoch. It depends on the epoch only, so nothing is saved."""

from collections.abc import Iterable
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

    def set_learning(self, learns: bool) -> None:
        """Frozen parameters get no gradient, and need no backward pass if nothing before them is trained."""
        for parameter in self.parameters:
            parameter.requires_grad_(learns)

    def set_evaluating(self) -> None:
        """Evaluation mode: norms keep their statistics, and there is no dropout."""
        for module in self.modules:
            module.training = False


class Freezing:
    """Freezes and unfreezes the backbone by epoch.

    The head is always trained. FreezeSettings apply, but after hierarchy.conditional_epochs the whole backbone stays
    frozen.
    """

    def __init__(self, backbone: nn.Module, settings: FreezeSettings, *, conditional_epochs: int = 0) -> None:
        self._parts = parts_of(backbone)
        self._settings, self._conditional_epochs = settings, conditional_epochs
        self._num_learning: int | None = None

    def begin(self, epoch: int) -> bool:
        """Freeze and unfreeze parts for `epoch` (from 0). True at first and if anything changes."""
        before, self._num_learning = self._num_learning, self._wanted(epoch)
        for index, part in enumerate(reversed(self._parts)):
            part.set_learning(index < self._num_learning)
        return before != self._num_learning

    def keep_statistics(self) -> None:
        """Call after ``model.train()``: puts frozen parts back into evaluation mode."""
        assert self._num_learning is not None, "begin() comes first"
        for part in self._parts[: len(self._parts) - self._num_learning]:
            part.set_evaluating()

    @property
    def learning(self) -> list[str]:
        """Names of the trained parts, from the head downwards."""
        return ["head", *(part.name for part in self._parts[::-1][: self._num_learning])]

    @property
    def is_partial(self) -> bool:
        """Whether something is frozen."""
        return self._num_learning != len(self._parts)

    def _wanted(self, epoch: int) -> int:
        if self._conditional_epochs and epoch >= self._conditional_epochs:
            return 0
        return num_learning_parts(epoch, self._settings, num_parts=len(self._parts))


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
    """The backbone in pieces, input first, cut behind the stages that timm lists (`feature_info`).

    What comes before the first stage belongs to it, as does to the last one what comes after it. A network without
    such a list is cut into its children.
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


def _learnable(modules: Iterable[nn.Module]) -> tuple[nn.Parameter, ...]:
    own = (parameter for module in modules for parameter in module.parameters(recurse=False))
    return tuple(parameter for parameter in own if parameter.requires_grad)


def _stage_ends(backbone: nn.Module, names: Iterable[str]) -> list[str]:
    """Names of the modules that end timm's stages, as they are called here: its feature extractors rename them."""
    information = getattr(getattr(backbone, "network", None), "feature_info", [])
    stages = [stage["module"] for stage in getattr(information, "info", information)]
    by_flat_name = {_flat(name): name for name in names}
    found = [
        by_flat_name.get(f"network_{_flat(stage)}") or by_flat_name.get(f"network_model_{_flat(stage)}")
        for stage in stages
    ]
    return [name for name in found if name is not None]


def _children_with_parameters(backbone: nn.Module) -> list[str]:
    network = getattr(backbone, "network", backbone)
    prefix = "network." if network is not backbone else ""
    return [f"{prefix}{name}" for name, child in network.named_children() if any(True for _ in child.parameters())]


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _is_in(name: str, end: str) -> bool:
    return name == end or name.startswith(f"{end}.")

"""A layer of a detector that is a classifier's network: normalisation and stages, with its weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn import tasks

from cxr.config import UserError


class _OwnNorm(nn.BatchNorm2d):
    """A batch normalisation with an epsilon of its own: ultralytics changes that of `nn.BatchNorm2d` itself."""


class ClassifierFeatures(nn.Module):
    """From pictures (B, 1, H, W) in [0, 1] to a list of the classifier's maps (B, C, h, w), one per stage.

    A row of an ultralytics layout may name this layer; its arguments are those below, and all weights are random. A
    checkpoint holds arguments and weights, not timm's classes: loading builds the network again with timm, so that the
    restricted loader needs to know this class only.

    Args:
        name: of the timm network, without the tag of pretrained weights.
        in_channels: of the network; the grey picture is repeated.
        stages: places in timm's list of stages.
        mean, std: of the classifier's input, one value or one per channel.

    Raises:
        UserError: timm has no such network, or it gives no maps.
    """

    mean: Tensor
    std: Tensor
    network: Any

    def __init__(
        self, name: str, in_channels: int, stages: Sequence[int], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.arguments = (name, in_channels, tuple(stages))
        for key, values in (("mean", mean), ("std", std)):
            each = torch.tensor(values).expand(in_channels)
            self.register_buffer(key, each.reshape(1, -1, 1, 1).clone())
        self.network = self._make_network()

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """(B, 1, H, W) to one map per stage."""
        normalised = (pictures - self.mean) / self.std
        return list(self.network(normalised.contiguous(memory_format=torch.channels_last)))

    def train(self, mode: bool = True) -> "ClassifierFeatures":
        """As in torch; a normalisation whose weights are frozen keeps its statistics, too."""
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()
        return self

    def names_up_to(self, stride: int) -> list[str]:
        """Names of the modules with weights, as in `named_parameters`, up to the end of the last stage with this stride
        or a finer one. Timm names modules in the order of computation."""
        stages = tuple(
            f"network.model.{entry['module']}." for entry in self.network.feature_info if entry["reduction"] <= stride
        )
        names = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in self.named_parameters()))
        ends = [place for place, name in enumerate(names, start=1) if f"{name}.".startswith(stages)]
        return names[: max(ends, default=0)]

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy: all but the network, and the network's tensors."""
        modules = {name: module for name, module in self._modules.items() if name != "network"}
        return {**self.__dict__, "_modules": modules, "tensors": dict(self.network.state_dict())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The network again, with the state's tensors in their precision.

        Raises:
            ValueError: timm cannot make the network.
        """
        others = {name: value for name, value in state.items() if name != "tensors"}
        super().__setstate__(others)  # type: ignore[no-untyped-call]
        try:
            network = self._make_network()
        except UserError as error:
            raise ValueError("; ".join(error.problems)) from None
        network.load_state_dict(state["tensors"])
        self.network = network.to(self.mean).train(self.training)

    def _make_network(self) -> Any:
        from stage1_classify.model.pyramid import make_pyramid  # timm takes a second, and few detectors need it

        name, in_channels, stages = self.arguments
        network = make_pyramid(name, in_channels=in_channels, stages=stages)
        for module in network.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = _OwnNorm
        return network.to(memory_format=torch.channels_last)


# Ultralytics looks the names in a layout up in this module.
tasks.ClassifierFeatures = ClassifierFeatures  # type: ignore[attr-defined]

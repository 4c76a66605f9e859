"""The detector's side of distillation: the layers that learn, and their projections to the classifier's features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel

STRIDES = (8, 16, 32)

_NORM_MOMENTUM = 0.1
"""PyTorch's default. Ultralytics' 0.03 follows the networks of a short distillation too slowly to evaluate them."""


@dataclass(frozen=True)
class Tap:
    """A layer of the detector that learns to predict features. name: for metrics, such as backbone_8."""

    name: str
    layer: int
    stride: int
    num_channels: int


def find_taps(model: Any, layers: Literal["backbone", "neck"]) -> list[Tap]:
    """The last layer of the backbone at each of `STRIDES`; with neck, also the layers that the head reads."""
    side = 4 * max(STRIDES)
    blank = torch.zeros(1, int(model.yaml["channels"]), side, side)
    wanted = range(len(model.model) - 1)
    was_training = model.training
    model.eval()  # a picture without content must not change running means
    with torch.no_grad():
        outputs = dict(zip(wanted, layer_outputs(model, blank, wanted), strict=True))
    model.train(was_training)
    parts = {"backbone": range(len(model.yaml["backbone"]))}
    if layers == "neck":
        parts["neck"] = model.model[-1].f
    taps = []
    for part, members in parts.items():
        of_stride = {side // outputs[index].shape[-1]: index for index in members}  # the last one of a stride stays
        for stride in STRIDES:
            if stride in of_stride:
                index = of_stride[stride]
                taps.append(Tap(f"{part}_{stride}", index, stride, outputs[index].shape[1]))
    return taps


def layer_outputs(model: Any, images: Tensor, wanted: Sequence[int]) -> list[Tensor]:
    """Outputs of the layers `wanted`, in that order; images: (B, C, H, W) in [0, 1]. Later layers are not computed."""
    kept: dict[int, Any] = {-1: images}
    for layer in model.model[: max(wanted) + 1]:
        sources = [layer.f] if isinstance(layer.f, int) else layer.f
        inputs = [kept[index] if index != -1 else kept[layer.i - 1] for index in sources]
        kept[layer.i] = layer(inputs[0] if isinstance(layer.f, int) else inputs)
    return [kept[index] for index in wanted]


class Student(nn.Module):
    """The detector's layers and a 1x1 projection for each.

    The weights have the channels last in memory, which is the faster layout for small convolutions on a CPU.

    num_targets: channels of the classifier's features, one number per tap.
    """

    def __init__(self, model: DetectionModel, taps: Sequence[Tap], num_targets: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(tap.name for tap in taps)
        self.layers = [tap.layer for tap in taps]
        self.projections = nn.ModuleList(
            nn.Conv2d(tap.num_channels, count, 1) for tap, count in zip(taps, num_targets, strict=True)
        )
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = _NORM_MOMENTUM
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Predicted features (B, C, h, w) of each tap; images: (B, channels, H, W) in [0, 1]."""
        outputs = layer_outputs(self.model, images, self.layers)
        return [project(output) for project, output in zip(self.projections, outputs, strict=True)]

    def trained_parameters(self) -> list[nn.Parameter]:
        """Those of the layers up to the last tap, and of the projections."""
        layers: Any = self.model.model
        used = nn.ModuleList(layers[: max(self.layers) + 1])
        return [*used.parameters(), *self.projections.parameters()]

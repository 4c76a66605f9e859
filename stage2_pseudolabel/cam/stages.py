"""Features of several stages of a backbone from one forward, and the gradients of logits with respect to them.

Stages are the modules in timm's `feature_info`; the features that the head uses replace the last of them. They are
counted back: -1 is the head's features, -2 the stage before. Without `feature_info` there are only the head's features.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cxr.config import UserError
from stage1_classify.model.backbone import map_of_tokens


@dataclass(frozen=True)
class StageFeatures:
    """Features of some stages, earliest first, in the graph of one forward that begins at the earliest of them.

    outputs: of the network (maps with channels first or last, or tokens). to_map: functions that bring each output and
    its gradient to (B, C, h, w). features: (B, C, h, w), the input of the head.
    """

    outputs: list[Tensor]
    to_map: list[Callable[[Tensor], Tensor]]
    features: Tensor

    def maps(self) -> list[Tensor]:
        """Features (B, C, h, w) of each stage, without a graph."""
        return [to_map(output.detach()) for to_map, output in zip(self.to_map, self.outputs, strict=True)]

    def gradients(self, total: Tensor) -> list[Tensor]:
        """Gradients (B, C, h, w) of a scalar with respect to each stage; the graph is kept, no .grad is written."""
        gradients = torch.autograd.grad(total, self.outputs, retain_graph=True, materialize_grads=True)
        return [to_map(gradient) for to_map, gradient in zip(self.to_map, gradients, strict=True)]


class _Stage(NamedTuple):
    """A module of the network whose output is a stage, with its name in timm's `feature_info`."""

    name: str
    module: nn.Module
    num_channels: int


def choose_stages(backbone: nn.Module, places: Sequence[int] | None) -> tuple[int, ...]:
    """The stages `places`, each once, earliest first. None: the last two, or the only one.

    Raises:
        UserError: the backbone does not have a stage.
    """
    names = [stage.name for stage in _earlier_stages(backbone)]
    if places is None:
        return (-2, -1) if names else (-1,)
    lowest = -1 - len(names)
    unknown = sorted({place for place in places if not lowest <= place <= -1})
    if unknown or not places:
        raise UserError(
            f"cam.layercam_stages: got {list(places)}, expected stages from {lowest} ({[*names, 'features'][0]}) to -1 "
            "(the features that the head uses); omit it for the last two"
        )
    return tuple(sorted(set(places)))


def run_stages(backbone: nn.Module, images: Tensor, places: Sequence[int]) -> StageFeatures:
    """One forward of images (B, c, H, W) with the stages of `choose_stages`. Nothing before the first stage is kept."""
    stages = _earlier_stages(backbone)
    wanted = [stages[len(stages) + 1 + place] for place in places if place < -1]
    outputs: list[Tensor] = []
    with torch.enable_grad(), ExitStack() as hooks:
        for stage in wanted:
            handle = stage.module.register_forward_hook(_keep(stage, outputs))
            hooks.callback(handle.remove)
        features = backbone(images)
    if len(outputs) != len(wanted):
        names = [stage.name for stage in wanted]
        raise UserError(f"cam.layercam_stages: of {names} only {len(outputs)} ran; give other stages")
    network = _network(backbone)
    to_map = [_layout(output, stage, network, images) for output, stage in zip(outputs, wanted, strict=True)]
    if -1 in places:
        features = features if outputs else features.detach().requires_grad_()
        outputs, to_map = [*outputs, features], [*to_map, _as_it_is]
    return StageFeatures(outputs, to_map, features)


def _keep(stage: _Stage, outputs: list[Tensor]) -> Callable[[nn.Module, Any, Any], Tensor]:
    """A forward hook that keeps the output; the first one begins the graph. In-place layers after it get a copy."""

    def hook(_module: nn.Module, _given: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise UserError(f"cam.layercam_stages: {stage.name} gives no tensor; give other stages")
        outputs.append(output if outputs else output.detach().requires_grad_())
        return outputs[-1].clone()

    return hook


def _network(backbone: nn.Module) -> nn.Module:
    """timm's network inside our Backbone and inside timm's wrapper of a truncated network."""
    network = getattr(backbone, "network", backbone)
    inner = getattr(network, "model", None)
    return inner if isinstance(inner, nn.Module) and hasattr(network, "feature_info") else network


def _earlier_stages(backbone: nn.Module) -> list[_Stage]:
    """All stages except the head's features, earliest first."""
    given = getattr(getattr(backbone, "network", backbone), "feature_info", None) or ()
    rows = list(getattr(given, "info", given))
    # the features of a truncated network are those of the stage where it ends
    end = range(len(rows))[given.out_indices[-1]] if hasattr(given, "out_indices") else len(rows) - 1
    modules = dict(_network(backbone).named_modules())
    # timm writes the names of truncated networks with underscores
    found = [(row, modules.get(row["module"], modules.get(row["module"].replace(".", "_")))) for row in rows]
    stages = found[: max(end, 0)]
    return [_Stage(row["module"], module, row["num_chs"]) for row, module in stages if module is not None]


def _layout(output: Tensor, stage: _Stage, network: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor]:
    """The function that brings a stage's output to (B, C, h, w)."""
    if output.ndim == 3 and hasattr(network, "patch_embed"):
        return lambda tokens: map_of_tokens(network, tokens, images.shape[-2:])
    first = output.ndim == 4 and output.shape[1] == stage.num_channels
    last = output.ndim == 4 and output.shape[3] == stage.num_channels
    if last and (not first or str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")):
        return lambda maps: maps.permute(0, 3, 1, 2).contiguous()
    if first:
        return _as_it_is
    raise UserError(
        f"cam.layercam_stages: {stage.name} gives {tuple(output.shape)}, expected a map of {stage.num_channels} "
        "channels or tokens; give other stages"
    )


def _as_it_is(maps: Tensor) -> Tensor:
    return maps

"""The feature maps of a backbone's stages, which distillation takes as targets."""

from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from stage1_classify.model.backbone import Backbone


def stage_maps(backbone: Backbone, images: Tensor) -> list[Tensor]:
    """Feature maps (B, C, h, w) of an image batch (B, in_channels, H, W), from the first stage to the last.

    The stages are timm's (`feature_info`), as far as the network keeps them; the last map is the one that the head
    reads. Blocks that give tokens are left out, because all of a transformer's have the size of its last map.
    """
    caught: list[Tensor] = []
    with ExitStack() as stack:
        for module, num_channels in _stages(backbone.network):
            hook = _keep_map(caught, num_channels, axis=3 if backbone.is_channels_last else 1)
            stack.callback(module.register_forward_hook(hook).remove)
        last = backbone(images)
    return [*caught, last]


def _stages(network: Any) -> list[tuple[nn.Module, int]]:
    """Modules that end a stage, and the number of channels after each."""
    listed = getattr(network, "feature_info", [])
    # timm's feature extractors keep the list in an object, and the network one level below or with flattened names
    modules = {name.removeprefix("model.").removeprefix("body."): module for name, module in network.named_modules()}
    found = []
    for entry in getattr(listed, "info", listed):
        name = str(entry["module"])
        module = modules.get(name, modules.get(name.replace(".", "_")))
        if module is not None:
            found.append((module, int(entry["num_chs"])))
    return found


def _keep_map(caught: list[Tensor], num_channels: int, *, axis: int) -> Any:
    """A hook that keeps a module's output if it is a map, with the channels first. axis: where they probably are."""

    def hook(_: nn.Module, __: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4:
            return
        # stems may have another layout than the stages
        found = [place for place in (axis, 4 - axis) if output.shape[place] == num_channels]
        if found:
            caught.append(output if found[0] == 1 else output.permute(0, 3, 1, 2))

    return hook

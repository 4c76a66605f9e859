"""Picture sizes of a network's maps."""

import torch
from timm.layers.patch_embed import PatchEmbed

from cxr.config import UserError
from stage1_classify.model.classifier import Classifier
from stage2_pseudolabel.settings.pseudolabel import TeacherSettings

_STEP = 32
"""Sides are multiples of it: the stride of most networks."""

_FAILURES = (TypeError, ValueError, RuntimeError, AssertionError, IndexError)
"""Errors of networks for a size that they do not accept."""


def input_sizes(
    network: Classifier, input_shape: tuple[int, int, int], settings: TeacherSettings
) -> list[tuple[int, int]]:
    """(H, W) for each of `settings.scales`: the network's own size for 1, else sides rounded to whole strides.

    Args:
        input_shape: channels, H and W as in training.

    Raises:
        UserError: two scales give the same size, or the network does not accept pictures of one.
    """
    channels, *own = input_shape
    own_hw = (own[0], own[1])
    sizes = [own_hw if scale == 1 else _scaled(network, own_hw, scale) for scale in settings.scales]
    if len(set(sizes)) < len(sizes):
        raise UserError(
            f"teacher.scales: {settings.scales} of pictures of {own_hw} give sizes {sizes}, expected different ones; "
            "leave one out"
        )
    for scale, size_hw in zip(settings.scales, sizes, strict=True):
        if size_hw != own_hw:
            _check_size(network, (channels, *size_hw), scale=scale, own_hw=own_hw)
    return sizes


def _scaled(network: Classifier, own_hw: tuple[int, int], scale: float) -> tuple[int, int]:
    steps = (_STEP, _STEP)
    for module in network.modules():
        if isinstance(module, PatchEmbed):
            height, width = (_STEP if _STEP % patch == 0 else int(patch) for patch in module.patch_size)
            steps = (height, width)
    height, width = (max(1, round(side * scale / step)) * step for side, step in zip(own_hw, steps, strict=True))
    return height, width


@torch.no_grad()
def _check_size(network: Classifier, shape: tuple[int, int, int], *, scale: float, own_hw: tuple[int, int]) -> None:
    parameter = next(network.parameters())
    try:
        network.backbone(torch.zeros(1, *shape, device=parameter.device, dtype=parameter.dtype))
    except torch.OutOfMemoryError:
        raise
    except _FAILURES as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"teacher.scales: {network.backbone.settings.name!r} accepts pictures of {own_hw}, not of {shape[1:]} "
            f"(scale {scale:g}): {reason}; set teacher.scales=[1.0], or use a convolutional backbone"
        ) from None

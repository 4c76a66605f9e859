"""A classifier's stages at several strides at once, for a detector that is built on them."""

from collections.abc import Mapping, Sequence
from typing import Any

import timm
from torch import Tensor

from cxr.config import UserError
from stage1_classify.settings.classifier import BackboneSettings

_FAILURES = (TypeError, ValueError, RuntimeError, LookupError, AttributeError, AssertionError)
"""Errors of timm for networks that give no maps."""


def make_pyramid(name: str, *, in_channels: int, stages: Sequence[int]) -> Any:
    """A timm network with random weights: from (B, in_channels, H, W) to one map (B, C, h, w) per stage.

    What follows the last of these stages is left out. `feature_info` holds strides and channels.

    Args:
        name: without the tag of pretrained weights.
        stages: places in timm's list of stages, in rising order.

    Raises:
        UserError: timm has no such network, or it gives no maps of pictures of any size.
    """
    return _create(name, in_chans=in_channels, out_indices=tuple(stages))


def stages_by_stride(settings: BackboneSettings) -> dict[int, int]:
    """Stride -> place of the last stage with this stride, among the stages that the classifier keeps.

    Raises:
        UserError: as `make_pyramid`.
    """
    strides = [int(stride) for stride in _create(settings.name).feature_info.reduction()]
    last = -1 if settings.feature_stage is None else settings.feature_stage
    return {stride: place for place, stride in enumerate(strides[: last % len(strides) + 1])}


def load_pyramid(pyramid: Any, classifier: Mapping[str, Tensor]) -> None:
    """Copy the weights of a classifier's `backbone.network` into a pyramid of some of its stages."""
    held = {_plain(name): tensor for name, tensor in classifier.items()}
    pyramid.load_state_dict({name: held[_plain(name)] for name in pyramid.state_dict()})


def _create(name: str, **options: Any) -> Any:
    if not timm.is_model(name):
        raise UserError(f"backbone: timm has no model {name!r}; install the version of timm that made the classifier")
    configuration = timm.get_pretrained_cfg(name, allow_unregistered=True)
    try:
        if configuration is not None and configuration.fixed_input_size:
            raise ValueError("it takes pictures of one size only")
        # The getter keeps timm's names of the layers, and nothing behind the last stage.
        return timm.create_model(name, pretrained=False, features_only=True, feature_cls="getter", **options)
    except _FAILURES as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"backbone.source: classifier: {name} gives no maps for a detector: {reason}; set backbone.source to yolo"
        ) from None


def _plain(name: str) -> str:
    """A layer's name without what timm's wrappers change: a prefix, or points that become underscores."""
    return name.removeprefix("model.").replace(".", "_")

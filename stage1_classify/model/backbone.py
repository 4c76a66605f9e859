"""The backbone: a timm network with features (B, C, h, w), from scratch or with pretrained weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import timm
import torch
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn
from torch.func import functional_call

from cxr.config import UserError
from cxr.labels import nearest
from stage1_classify.model.weights import read_weights
from stage1_classify.settings.classifier import BackboneSettings

_FAILURES = (TypeError, ValueError, RuntimeError, LookupError, AttributeError, AssertionError, OSError)
"""Errors of timm for unknown settings and failed downloads."""


class Backbone(nn.Module):
    """Feature map of any timm model: (B, in_channels, H, W) to (B, C, h, w) with C = `num_features`."""

    def __init__(self, settings: BackboneSettings, input_hw: tuple[int, int]) -> None:
        super().__init__()
        self.settings = settings
        self.network = _create_network(settings, input_hw)
        self.is_pyramid = settings.feature_stage is not None
        # Its forward would average its class and distillation tokens.
        self.is_distilled = _is_distilled(settings) and not self.is_pyramid
        self.is_channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        self.num_features = self._check_map(settings, input_hw)

    def forward(self, images: Tensor) -> Tensor:
        features = self.network.forward_features(images) if self.is_distilled else self.network(images)
        if self.is_pyramid:
            features = features[-1]
        if features.ndim == 3:
            return map_of_tokens(self.network, features, images.shape[-2:])
        if self.is_channels_last:
            features = features.permute(0, 3, 1, 2).contiguous()
        result: Tensor = features
        return result

    def _check_map(self, settings: BackboneSettings, input_hw: tuple[int, int]) -> int:
        """C, after checking that an image (H, W) gives a map of the whole image, as fine as the settings ask."""
        for module in self.modules():
            if isinstance(module, PatchEmbed) and any(np.remainder(input_hw, module.patch_size)):
                # timm would crop the image, and maps would be stretched
                raise UserError(
                    f"input.size_hw: got {input_hw}, expected multiples of {module.patch_size}, the patches of "
                    f"{settings.name!r}"
                )
        try:
            _, channels, *map_hw = self._map_shape((1, settings.in_channels, *input_hw))
        except _FAILURES as error:
            raise UserError(
                f"backbone.name: {settings.name!r} gives no map of features for pictures of {input_hw}: "
                f"{_one_line(error)}; give another network, another input.size_hw, or a feature_stage"
            ) from None
        stride = settings.output_stride or max(input_hw)
        if len(map_hw) != 2 or any(m < n // stride for m, n in zip(map_hw, input_hw, strict=True)):
            raise UserError(
                f"backbone: {settings.name!r} makes {(channels, *map_hw)} of pictures of {input_hw}, expected a map "
                f"(C, h, w) of stride {settings.output_stride or 'any'}; give another network"
            )
        return int(channels)

    @torch.no_grad()
    def _map_shape(self, shape: tuple[int, ...]) -> torch.Size:
        """Shape of the features for images of this shape, on the meta device, without computation."""
        tensors = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        shapes = {name: tensor.to("meta") for name, tensor in tensors.items()}
        self.eval()
        features = functional_call(self, shapes, (torch.empty(shape, device="meta"),))
        self.train()
        return torch.Size(features.shape)


def map_of_tokens(network: Any, tokens: Tensor, image_hw: torch.Size) -> Tensor:
    """Tokens (B, N, C) of a timm transformer, class or register tokens first, to (B, C, h, w)."""
    height, width = network.patch_embed.dynamic_feat_size(tuple(image_hw))
    patches = tokens[:, int(getattr(network, "num_prefix_tokens", 0)) :]
    return patches.transpose(1, 2).reshape(len(tokens), tokens.shape[-1], height, width)


def _create_network(settings: BackboneSettings, input_hw: tuple[int, int]) -> Any:
    if not timm.is_model(settings.name):
        hint = nearest(settings.name, timm.list_models())
        raise UserError(f"backbone.name: timm has no model {settings.name!r}{hint}")
    options = _options(settings, input_hw)
    try:
        if settings.weights is None:
            return timm.create_model(settings.name, pretrained=settings.pretrained, **options)
        return _create_with_weights(settings, options)
    except _FAILURES as error:
        raise _creation_error(settings, error, options) from None


def _options(settings: BackboneSettings, input_hw: tuple[int, int]) -> dict[str, Any]:
    options: dict[str, Any] = {"in_chans": settings.in_channels}
    if settings.feature_stage is None:
        options |= _without_classifier(settings)
    else:
        options |= {"features_only": True, "out_indices": (settings.feature_stage,)}
        if timm.models.model_entrypoint(settings.name).__module__.endswith((".efficientnet", ".mobilenetv3")):
            options["feature_cls"] = "getter"  # their own class keeps, and computes, what follows the stage
    configuration = timm.get_pretrained_cfg(settings.name, allow_unregistered=True)
    # ViT, Swin: position tables need the size.
    if configuration is not None and configuration.fixed_input_size:
        options["img_size"] = input_hw
    if settings.output_stride is not None:
        options["output_stride"] = settings.output_stride
    if settings.drop_path_rate is not None:
        options["drop_path_rate"] = settings.drop_path_rate
    return options


def _create_with_weights(settings: BackboneSettings, options: Mapping[str, Any]) -> Any:
    whole = timm.create_model(settings.name, **_without_classifier(settings))
    overlay = {"state_dict": dict(read_weights(settings, whole.state_dict()))}
    network = timm.create_model(settings.name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    for module in network.modules():
        if isinstance(configuration := getattr(module, "pretrained_cfg", None), dict):
            configuration.pop("state_dict", None)  # else every copy of the network would copy the tensors too
    return network


def _without_classifier(settings: BackboneSettings) -> dict[str, Any]:
    """No classifier, and no pooling of the last features."""
    options: dict[str, Any] = {"num_classes": 0}
    if settings.feature_stage is None and not _is_distilled(settings):
        options["global_pool"] = ""
    return options


def _is_distilled(settings: BackboneSettings) -> bool:
    """DeiT with a distillation token, whose pooling cannot be switched off in timm."""
    return settings.name.startswith("deit_") and "distilled" in settings.name


def _creation_error(settings: BackboneSettings, error: Exception, options: Mapping[str, Any]) -> UserError:
    reason = _one_line(error)
    if "output_stride" in reason:
        return UserError(
            f"backbone.output_stride: timm supports it for the ResNet, ConvNeXt and EfficientNet families, not for "
            f"{settings.name!r}; leave it out, or set an earlier feature_stage"
        )
    if settings.feature_stage is not None and isinstance(error, IndexError | AssertionError):
        return UserError(
            f"backbone.feature_stage: {settings.name!r} has no stage {settings.feature_stage}; count from 0 (the "
            "first) or back from -1 (the last), or leave it out"
        )
    if settings.pretrained and settings.weights is None and isinstance(error, OSError):
        return UserError(
            f"backbone.pretrained: could not fetch timm's weights of {settings.name!r}: {reason}; "
            "repair the connection, or give a local file as backbone.weights"
        )
    return UserError(f"backbone: timm cannot make {settings.name!r} with {options}: {reason}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

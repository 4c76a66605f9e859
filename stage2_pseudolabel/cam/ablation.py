"""AblationCAM through the head alone: what the logits lose when one channel of the features is taken away."""

from typing import Literal

import torch
from torch import Tensor

from stage1_classify.model.heads import Head

# How pytorch-grad-cam ablates features with negative values: the lowest value minus this, channel after
# channel of a batch of 32, each starting from the value before.
_LIBRARY_STEP = 1e7
_LIBRARY_BATCH = 32
# Live copies of a block (c, P, h, w) while a head pools it.
_LIVE_COPIES = 6


def ablationcam(
    features: Tensor,
    head: Head,
    *,
    ablation_value: Literal["zero", "library"] = "zero",
    ablation_denominator: Literal["logit", "magnitude"] = "logit",
    memory_mib: int = 256,
) -> Tensor:
    """AblationCAM: relu(sum_c w_c x_c), w_c = (z - z without channel c) / z, z the logit of the class.

    Desai and Ramaswamy, "Ablation-CAM", WACV 2020,
    https://openaccess.thecvf.com/content_WACV_2020/papers/Desai_Ablation-CAM_Visual_Explanations_for_Deep_Convolutional_Network_via_Gradient-free_Localization_WACV_2020_paper.pdf
    Logits depend on the features only through the head's projection s = v x (its logit maps; for attention
    the gates too), so without channel c they are pool(s - v_c x_c): C evaluations of the pooling rule, none of
    the backbone.
    features (B, C, h, w) -> maps (B, K, h, w). Blocks of channels keep to `memory_mib`.

    `ablation_value`: "zero", the paper's, which pytorch-grad-cam shares where the lowest feature is 0
    (ReLU). Elsewhere (ConvNeXt) it puts in -1e7, -2e7, ... by the channel's place in its batch of 32, so its
    weights tell the place rather than the channel; "library" repeats that, for comparison only.
    `ablation_denominator`: "logit" as in the paper and library (a negative logit turns the map round);
    "magnitude" divides by |z|. A logit of exactly 0 divides by 1.
    """
    with torch.no_grad():
        projection = head.project(features)
        logits = head.pool(projection)
        scale = logits.abs() if ablation_denominator == "magnitude" else logits
        scale = torch.where(scale == 0, 1.0, scale)
        weights = torch.empty(*logits.shape, features.shape[1], device=features.device)
        for index, image in enumerate(features):
            removed = image - _replacements(image, ablation_value)
            ablated = _ablated_logits(projection[index], removed, head=head, memory_mib=memory_mib)
            weights[index] = (logits[index] - ablated).T / scale[index, :, None]
        maps = weights @ features.flatten(2)
        return maps.reshape(*logits.shape, *features.shape[-2:]).relu_()


def _ablated_logits(projection: Tensor, removed: Tensor, *, head: Head, memory_mib: int) -> Tensor:
    """Logits (C, K) of one image, projection (P, h, w), after taking away `removed` (C, h, w) channel by channel."""
    weight = head.projection_weight.T[:, :, None, None]
    rows = max(1, memory_mib * 2**20 // (projection.numel() * projection.element_size() * _LIVE_COPIES))
    blocks = zip(torch.split(weight, rows), torch.split(removed.unsqueeze(1), rows), strict=True)
    return torch.cat([head.pool(projection - block * channels) for block, channels in blocks])


def _replacements(image: Tensor, ablation_value: str) -> Tensor:
    """What stands in for each channel of one image's features (C, h, w) -> (C, 1, 1)."""
    lowest = image.min()
    if ablation_value == "zero" or lowest == 0:
        return torch.zeros(len(image), 1, 1, device=image.device)
    values: list[Tensor] = []
    for channel in range(len(image)):
        before = lowest if channel % _LIBRARY_BATCH == 0 else values[-1]
        values.append(before - _LIBRARY_STEP)
    return torch.stack(values)[:, None, None]

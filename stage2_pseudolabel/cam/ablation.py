"""AblationCAM through the head alone: how much the logits fall when one channel of the features is removed."""

from typing import Literal

import torch
from torch import Tensor

from stage1_classify.model.heads import Head

# pytorch-grad-cam replaces a channel of features with negative values by the lowest value minus this, and the next
# channels of its batch of 32 by the value before minus this.
_LIBRARY_STEP = 1e7
_LIBRARY_BATCH = 32
# copies of a block (c, P, h, w) in memory while a head pools it
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

    Logits depend on the features only through the head's projection s = v x (its logit maps; for attention also the
    gates). Without channel c they are pool(s - v_c x_c): C evaluations of the pooling rule and none of the backbone.

    Args:
        features: (B, C, h, w).
        head: gives the projection and the logits (B, K).
        ablation_value: "zero" as in the paper, and in pytorch-grad-cam where the lowest feature is 0 (ReLU). "library":
            otherwise (ConvNeXt) -1e7, -2e7, ... by the channel's place in a batch of 32, the value that
            pytorch-grad-cam uses; the weights then depend on the place. For comparison only.
        ablation_denominator: "logit" as in the paper (a negative logit inverts the map); "magnitude": |z|. A logit of
            exactly 0 divides by 1.
        memory_mib: limit for a block of channels.

    Returns:
        Maps (B, K, h, w), not negative.
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
    """Logits (C, K) of one image's projection (P, h, w) after removing `removed` (C, h, w) channel by channel."""
    weight = head.projection_weight.T[:, :, None, None]
    rows = max(1, memory_mib * 2**20 // (projection.numel() * projection.element_size() * _LIVE_COPIES))
    blocks = zip(torch.split(weight, rows), torch.split(removed.unsqueeze(1), rows), strict=True)
    return torch.cat([head.pool(projection - block * channels) for block, channels in blocks])


def _replacements(image: Tensor, ablation_value: str) -> Tensor:
    """Values (C, 1, 1) that replace the channels of one image's features (C, h, w)."""
    lowest = image.min()
    if ablation_value == "zero" or lowest == 0:
        return torch.zeros(len(image), 1, 1, device=image.device)
    values: list[Tensor] = []
    for channel in range(len(image)):
        before = lowest if channel % _LIBRARY_BATCH == 0 else values[-1]
        values.append(before - _LIBRARY_STEP)
    return torch.stack(values)[:, None, None]

"""ScoreCAM: one sweep of masked forwards serves all classes, because the masks do not depend on the class."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

# The library's constant in the min-max of a mask.
_MASK_EPS = 1e-8


def scorecam(
    features: Tensor,
    images: Tensor,
    *,
    forward: Callable[[Tensor], Tensor],
    scorecam_batch: int = 32,
    scorecam_max_channels: int | None = None,
) -> Tensor:
    """Score-CAM: relu(sum_c w_c x_c), w = softmax over c of the logit of the image masked by channel c.

    Wang et al., "Score-CAM", CVPR Workshops 2020, https://arxiv.org/abs/1910.01279. The mask is x_c
    upsampled to the image (bilinear, corners aligned) and stretched to [0, 1]; as in pytorch-grad-cam the
    masked logits themselves go into the softmax, without a baseline. features (B, C, h, w), images
    (B, c, H, W), forward: images (n, c, H, W) -> logits (n, K); result (B, K, h, w).

    `scorecam_batch`: masked images a forward (what bounds memory). `scorecam_max_channels`: only that many
    channels, those of greatest variance over the positions; None is exact. A constant channel stands for
    the black image, whose logits are computed once for all of them (the library stretches its rounding noise).
    """
    with torch.no_grad():
        maps = []
        for image, stack in zip(images, features, strict=True):
            kept = _most_varied(stack, scorecam_max_channels)
            scores = _masked_logits(kept, image, forward=forward, batch=scorecam_batch)
            weights = scores.float().softmax(0)
            maps.append(torch.einsum("ck,chw->khw", weights, kept))
        return torch.stack(maps).relu_()


def _most_varied(stack: Tensor, count: int | None) -> Tensor:
    """The `count` channels of (C, h, w) with the greatest spatial variance, in their order."""
    if count is None or count >= len(stack):
        return stack
    variance = stack.flatten(1).var(1, correction=0)
    return stack[variance.topk(count).indices.sort().values]


def _masked_logits(
    stack: Tensor, image: Tensor, *, forward: Callable[[Tensor], Tensor], batch: int
) -> Tensor:
    """Logits (C, K) of image (c, H, W) masked by each channel of (C, h, w) in turn."""
    varies = stack.flatten(1).amax(1) > stack.flatten(1).amin(1)
    # The black image goes along as a constant channel at the end, if there is any constant channel.
    num_black = 0 if bool(varies.all()) else 1
    swept = torch.cat([stack[varies], stack.new_zeros(num_black, *stack.shape[1:])])
    with torch.inference_mode():
        logits = torch.cat([forward(_masked(image, part)) for part in swept.split(batch)])
    place = varies.cumsum(0) - 1
    return logits.clone()[torch.where(varies, place, len(swept) - 1)]


def _masked(image: Tensor, stack: Tensor) -> Tensor:
    """Image (c, H, W) times each channel of (n, h, w), upsampled and stretched -> (n, c, H, W)."""
    masks = functional.interpolate(
        stack.unsqueeze(1), size=image.shape[-2:], mode="bilinear", align_corners=True
    )
    lowest = masks.amin((-2, -1), keepdim=True)
    masks = (masks - lowest) / (masks.amax((-2, -1), keepdim=True) - lowest + _MASK_EPS)
    # Convolutions of many small images run faster with channels last.
    return (image * masks).contiguous(memory_format=torch.channels_last)

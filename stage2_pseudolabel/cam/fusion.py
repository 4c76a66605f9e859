"""LayerCAM from several stages, fused: the fine maps of early stages where the last stage sees the finding."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from stage2_pseudolabel.cam.gradient import layercam
from stage2_pseudolabel.cam.graph import frozen, over_blocks
from stage2_pseudolabel.cam.stages import StageFeatures, choose_stages, run_stages

if TYPE_CHECKING:
    from stage1_classify.model.classifier import Classifier


def layercamfusion(
    images: Tensor,
    model: "Classifier",
    *,
    layercam_stages: Sequence[int] | None = None,
    layercam_gamma: float = 2.0,
    memory_mib: int = 256,
) -> Tensor:
    """LayerCAM of several stages, the earlier ones scaled by tanh, fused by the element-wise maximum.

    Jiang et al., "LayerCAM", IEEE TIP 2021, https://ieeexplore.ieee.org/document/9462463, section III-C. Of stage s the
    map is M_s = relu(sum_c relu(g_c) x_c), x its features and g the gradient of the class's logit with respect to them.
    The paper divides maps by their maximum, scales those of shallow stages to tanh(gamma M_s / max M_s), and takes the
    maximum. Here the map D of the deepest stage that is asked for is not divided, so that maps of several images stay
    comparable: fused = max(D, max D * tanh(gamma M_s / max M_s), ...). So the fused map has the scale of D, never
    exceeds its maximum, and is zero where the class has no evidence in D at all. A map that is all zero stays so. One
    stage alone is LayerCAM of that stage, unscaled.

    images (B, c, H, W) -> maps (B, K, h, w) of the finest grid among the stages; coarser maps are brought to it
    bilinearly (a cell covers the same share of the image before and after, corners are not aligned).

    `layercam_stages`: counted back from -1, the head's features (see stages.py); None: the last two. Cost: one forward,
    and one backward a class from the logits to the earliest stage; images in blocks whose graph keeps to `memory_mib`,
    as measured on the first image.
    """
    places = choose_stages(model.backbone, layercam_stages)
    work = partial(_fused_maps, model, places, layercam_gamma)
    with frozen(model):
        return over_blocks(images, model, work, memory_mib=memory_mib)


def _fused_maps(model: "Classifier", places: Sequence[int], gamma: float, images: Tensor) -> Tensor:
    """Maps (B, K, h, w) of a block of images."""
    stages = run_stages(model.backbone, images, places)
    totals = model.head(stages.features).logits.sum(0).unbind()
    return fuse(_class_maps(stages, totals), gamma=gamma)


def fuse(maps: Sequence[Tensor], *, gamma: float) -> Tensor:
    """Fused map (B, K, h, w) of the stages' maps (B, K, h_s, w_s) >= 0, the deepest last (see layercamfusion)."""
    deepest = maps[-1]
    peaks = deepest.amax((-2, -1), keepdim=True)
    size_hw = [max(stack.shape[axis] for stack in maps) for axis in (-2, -1)]
    fused = _resized(deepest, size_hw)
    for shallow in maps[:-1]:
        highest = shallow.amax((-2, -1), keepdim=True)
        scaled = torch.tanh(gamma * shallow / torch.where(highest == 0, 1.0, highest)) * peaks
        fused = torch.maximum(fused, _resized(scaled, size_hw))
    return fused


def _class_maps(stages: StageFeatures, totals: Sequence[Tensor]) -> list[Tensor]:
    """LayerCAM (B, K, h_s, w_s) of each stage; an image's logits do not depend on the others, so a sum serves all."""
    features = stages.maps()
    by_class = []
    for total in totals:
        gradients = stages.gradients(total)
        by_class.append([layercam(x, g.unsqueeze(1)) for x, g in zip(features, gradients, strict=True)])
    return [torch.cat(maps, dim=1) for maps in zip(*by_class, strict=True)]


def _resized(maps: Tensor, size_hw: list[int]) -> Tensor:
    if list(maps.shape[-2:]) == size_hw:
        return maps
    return functional.interpolate(maps, size_hw, mode="bilinear", align_corners=False)

"""LayerCAM fused over several stages: the fine maps of early stages where the last stage shows the finding."""

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
    """LayerCAM of several stages, fused by the element-wise maximum: max(D, max D * tanh(gamma M_s / max M_s), ...).

    Jiang et al., "LayerCAM", IEEE TIP 2021, https://ieeexplore.ieee.org/document/9462463, section III-C. The map of
    stage s is M_s = relu(sum_c relu(g_c) x_c) with the stage's features x and their gradient g. D is the map of the
    deepest stage. The paper also divides D by its maximum; here it keeps its scale, so that images stay comparable.

    Args:
        images: (B, c, H, W).
        model: with `backbone` and `head`.
        layercam_stages: stages counted back from -1, the head's features (see stages.py); None: the last two.
        layercam_gamma: gamma.
        memory_mib: limit for the autograd graph of the images that go through the network together.

    Returns:
        Maps (B, K, h, w), not negative, on the finest grid of the stages; coarser maps are resized bilinearly.

    Cost: one forward, and one backward per class from the logits to the earliest stage.
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
    """Fused map (B, K, h, w) of the stages' maps (B, K, h_s, w_s) >= 0, the deepest last (see `layercamfusion`)."""
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
    """LayerCAM (B, K, h_s, w_s) of each stage; the logits of all images are summed, since they are independent."""
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

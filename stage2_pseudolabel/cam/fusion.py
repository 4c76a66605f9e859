"""LayerCAM from several stages, fused: the fine maps of early stages where the last stage sees the finding."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from stage2_pseudolabel.cam.gradient import layercam
from stage2_pseudolabel.cam.stages import StageFeatures, choose_stages, frozen, run_stages

if TYPE_CHECKING:
    from stage1_classify.model.classifier import Classifier

# Activations that backward makes beside those that the graph keeps.
_LIVE_COPIES = 2


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
    parts: list[list[Tensor]] = []
    with frozen(model):
        start, size = 0, 1
        while start < len(images):
            saved = _SavedBytes(model)
            with torch.autograd.graph.saved_tensors_hooks(saved.pack, _as_it_is):
                stages = run_stages(model.backbone, images[start : start + size], places)
                with torch.enable_grad():
                    totals = model.head(stages.features).logits.sum(0).unbind()
            parts.append(_class_maps(stages, totals))
            start, size = start + size, max(1, memory_mib * 2**20 * size // (saved.total * _LIVE_COPIES + 1))
    return fuse([torch.cat(maps) for maps in zip(*parts, strict=True)], gamma=layercam_gamma)


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


class _SavedBytes:
    """Bytes that a graph keeps for backward, but for the model's own parameters and buffers."""

    def __init__(self, model: nn.Module) -> None:
        tensors = [*model.parameters(), *model.buffers()]
        self._own = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        self._sizes: dict[int, int] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._own:
            self._sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would hold the graph that holds it

    @property
    def total(self) -> int:
        return sum(self._sizes.values())


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor

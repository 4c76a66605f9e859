"""FullGrad: every layer with a bias contributes to the map, not only the last features."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from stage2_pseudolabel.cam.graph import frozen, over_blocks

_EPS = 1e-7
"""pytorch-grad-cam's constant in the min-max of a channel."""

_FEW_CHANNELS = 4


def fullgrad(
    images: Tensor, model: nn.Module, *, map_hw: tuple[int, int] | None = None, memory_mib: int = 256
) -> Tensor:
    r"""FullGrad: the input's and all biases' contributions to the logit, summed over the layers.

    Srinivas and Fleuret, "Full-Gradient Representation for Neural Network Visualization", NeurIPS 2019,
    https://arxiv.org/abs/1905.00780:

    .. math:: M_k = \sum_c \psi(|x_c \, \partial z_k / \partial x_c|)
        + \sum_l \sum_c \psi(|b_{lc} \, \partial z_k / \partial a_{lc}|)

    where x is the image and a_l the output of layer l, a Conv2d or BatchNorm2d with the bias b_l. psi stretches each
    channel to [0, 1] and resizes it bilinearly to the image; it is that of pytorch-grad-cam. Subclasses of the layers
    count as well, such as timm's BatchNormAct2d (before its activation); pytorch-grad-cam leaves them out, so on
    EfficientNet and DenseNet only its term of the image remains. Its last min-max is omitted, because it would raise
    the map of an absent finding to 1.

    Args:
        images: (B, c, H, W).
        model: images -> logits (B, K), in evaluation mode.
        map_hw: size that the maps are averaged down to; None keeps (H, W).
        memory_mib: bound on the autograd graph of the images that go through the network together.

    Returns:
        Maps (B, K, h, w), not negative.

    Cost: one forward, and one backward through the whole network per class, for a block of images at a time.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
        >>> fullgrad(torch.randn(3, 1, 8, 12), model).shape
        torch.Size([3, 2, 8, 12])
    """
    with frozen(model), _recording(model) as layers:
        maps = over_blocks(images, model, partial(_class_maps, model, layers), memory_mib=memory_mib)
    return maps if map_hw is None else functional.adaptive_avg_pool2d(maps, map_hw)


class _Layers:
    """Contributions of the layers to one class, summed by size during the backward."""

    def __init__(self) -> None:
        self.sums: dict[tuple[int, int], Tensor] = {}

    def add(self, gradient: Tensor, scale: Tensor) -> None:
        """Add the stretched channels of |gradient * scale|, (B, C, h, w) and (C,)."""
        summed = _sum_of_stretched(gradient, scale.abs())
        size_hw = (summed.shape[-2], summed.shape[-1])
        self.sums[size_hw] = self.sums[size_hw] + summed if size_hw in self.sums else summed

    def take(self, size_hw: tuple[int, int]) -> Tensor:
        """The sum over all layers (B, H, W), which is reset. Layers of one size are resized together."""
        resize = partial(functional.interpolate, size=size_hw, mode="bilinear", align_corners=False)
        total = torch.stack([resize(summed.unsqueeze(1)).squeeze(1) for summed in self.sums.values()]).sum(0)
        self.sums = {}
        return total


def _class_maps(model: nn.Module, layers: _Layers, images: Tensor) -> Tensor:
    """Maps (B, K, H, W) of a block of images; the logits of all images are summed, since they are independent."""
    leaf = images.clone().requires_grad_()  # a copy, for images made in inference mode
    totals = model(leaf).sum(0)
    maps = []
    for total in totals:
        (gradient,) = torch.autograd.grad(total, leaf, retain_graph=True)
        layers.add(gradient * images, images.new_ones(images.shape[1]))
        maps.append(layers.take((images.shape[-2], images.shape[-1])))
    return torch.stack(maps, dim=1)


@torch.no_grad()
def _sum_of_stretched(gradient: Tensor, scale: Tensor) -> Tensor:
    """(B, h, w): sum over the channels of scale |gradient|, (C,) and (B, C, h, w), each stretched to [0, 1]."""
    strength = gradient.abs().flatten(2)
    low, high = strength.amin(-1, keepdim=True), strength.amax(-1, keepdim=True)
    weights = scale[:, None] / (scale[:, None] * (high - low) + _EPS)
    # subtract the lowest value first, so that a constant channel gives exact zeros
    summed: Tensor = weights.mT @ strength.sub_(low)
    return summed.reshape(len(gradient), *gradient.shape[-2:])


@contextmanager
def _recording(model: nn.Module) -> Iterator[_Layers]:
    """Hooks on all layers with a bias that add their contributions; removed afterwards."""
    layers = _Layers()
    with ExitStack() as hooks:
        for module in model.modules():
            if _has_few_channels(module):
                hooks.callback(module.register_forward_hook(_with_fast_gradient).remove)
            bias = _bias_of(module)
            if bias is not None:
                hooks.callback(_register(module, partial(layers.add, scale=bias)).remove)
        yield layers


def _register(module: nn.Module, add: Callable[[Tensor], None]) -> RemovableHandle:
    """A hook on a layer that calls `add` with the gradient of its output, before an activation that is part of it."""

    def watch(output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(add)  # type: ignore[no-untyped-call] # torch's

    inner = getattr(module, "drop", None)  # what timm's BatchNormAct2d calls between normalisation and activation
    if isinstance(inner, nn.Module):
        return inner.register_forward_pre_hook(lambda _module, given: watch(given[0]))
    return module.register_forward_hook(lambda _module, _given, output: watch(output))


def _bias_of(module: nn.Module) -> Tensor | None:
    """The bias (C,) of a Conv2d, or the total bias of a BatchNorm2d in evaluation mode; None for other layers."""
    if isinstance(module, nn.BatchNorm2d) and module.bias is not None:
        assert module.running_mean is not None
        assert module.running_var is not None
        scale = module.weight / torch.sqrt(module.running_var + module.eps)
        return module.bias - module.running_mean * scale
    return module.bias if isinstance(module, nn.Conv2d) else None


def _has_few_channels(module: nn.Module) -> bool:
    """Whether it is a convolution of few channels, whose gradient for its input is slow in PyTorch."""
    return (
        type(module) is nn.Conv2d
        and module.in_channels <= _FEW_CHANNELS
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _with_fast_gradient(module: nn.Conv2d, given: tuple[Tensor], output: Tensor) -> Tensor:
    """A forward hook: the same output with a faster backward."""
    if not output.requires_grad:
        return output
    result: Tensor = _Folded.apply(given[0], output.detach(), module)
    return result


class _Folded(torch.autograd.Function):
    """A convolution's output, whose backward to the images is one matrix product and a fold.

    From 64 channels to one it takes a sixth of the time of PyTorch's own backward on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, output: Tensor, module: nn.Conv2d) -> Tensor:
        ctx.module, ctx.image_hw = module, images.shape[-2:]
        return output.clone()  # layers after it may work in place

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        module = ctx.module
        columns = module.weight.flatten(1).T @ gradient.flatten(2)
        options = {"dilation": module.dilation, "padding": module.padding, "stride": module.stride}
        return functional.fold(columns, ctx.image_hw, module.kernel_size, **options), None, None

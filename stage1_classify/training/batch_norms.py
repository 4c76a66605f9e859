"""Batch norms whose statistics are those of all processes together, so that several processes train as one."""

from typing import Any, cast

import torch
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cxr.config import UserError


def synchronise_batch_norms(model: nn.Module, device: torch.device) -> None:
    """Change the batch norms inside `model` in place. Names and values of weights and statistics stay as they are.

    device: where the model is. PyTorch's own synchronised norm runs on GPUs only; on a CPU the classes below take its
    place.

    Raises:
        UserError: a norm of a kind that cannot be synchronised.
    """
    if device.type == "cuda":
        convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            if type(module) not in _SHARED:
                raise UserError(
                    f"processes: {name} is a {type(module).__name__}, which several processes cannot share on a CPU; "
                    "train with one process, or give another backbone.name"
                )
            module.__class__ = _SHARED[type(module)]  # type: ignore[assignment]  # on purpose


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the images of all processes."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> the same. N may differ between the processes and be 0."""
        return normalised(self, input) if self.training else super().forward(input)


class SharedBatchNormAct2d(BatchNormAct2d):
    """timm's batch norm with an activation, over the images of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        if self.training:
            return cast(Tensor, self.act(self.drop(normalised(self, x))))
        return cast(Tensor, super().forward(x))  # type: ignore[no-untyped-call]


_SHARED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: SharedBatchNorm2d,
    BatchNormAct2d: SharedBatchNormAct2d,
}


def normalised(norm: nn.BatchNorm2d, images: Tensor) -> Tensor:
    """Normalise images (N, C, H, W) by mean and variance over all processes, and update the running statistics.

    Mean and variance take one exchange each, because the difference of two large sums would lose digits.
    """
    values = images.float()
    number = _summed(torch.full((1,), values[:, 0].numel(), dtype=values.dtype, device=values.device))
    mean = _summed(values.sum((0, 2, 3))) / number
    centred = values - mean[:, None, None]
    variance = _summed(centred.square().sum((0, 2, 3))) / number
    if norm.track_running_stats:
        _update(norm, mean.detach(), variance.detach() * (number / (number - 1)))
    scale = torch.rsqrt(variance + norm.eps)
    if norm.affine:
        scale = scale * norm.weight
    result = centred * scale[:, None, None]
    return (result + norm.bias[:, None, None] if norm.affine else result).to(images.dtype)


class _Sum(torch.autograd.Function):
    """The sum over the processes. Each process's loss depends on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def _summed(values: Tensor) -> Tensor:
    if not distributed.is_initialized():
        return values
    total: Tensor = _Sum.apply(values)
    return total


@torch.no_grad()
def _update(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance, share)

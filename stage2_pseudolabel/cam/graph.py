"""A model prepared for maps (mode, precision, frozen parameters), and blocks of images whose graph fits into memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)

_LIVE_COPIES = 2
"""Bytes in backward as a multiple of those that the graph keeps, the graph included."""


def over_blocks(images: Tensor, model: nn.Module, work: Callable[[Tensor], Tensor], *, memory_mib: int) -> Tensor:
    """Apply `work` (images -> maps (B, ...)) to blocks of the images and concatenate; gradients are enabled inside.

    The first block is one image; the size of its graph gives the number of images that fit into `memory_mib`.
    """
    parts: list[Tensor] = []
    start, size = 0, 1
    while start < len(images):
        saved = _SavedBytes(model)
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(saved.pack, _unchanged):
            parts.append(work(images[start : start + size]))
        start += size
        size = max(1, memory_mib * 2**20 * size // (saved.total * _LIVE_COPIES + 1))
        num_blocks = -(-(len(images) - start) // size)
        size = -(-(len(images) - start) // max(1, num_blocks)) or 1  # blocks of equal size
    return torch.cat(parts)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Parameters require no gradient inside, so backward writes no .grad and costs less."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trainable:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


def in_float32(module: AnyModule) -> AnyModule:
    """The module itself, or a float32 copy if some of it is in half precision."""
    halves = (torch.float16, torch.bfloat16)
    is_half = any(parameter.dtype in halves for parameter in module.parameters())
    return deepcopy(module).float() if is_half else module


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """All modules are in evaluation mode inside and in their own mode afterwards."""
    training = [module for module in model.modules() if module.training]
    try:
        model.eval()
        yield
    finally:
        for module in training:
            module.training = True


class _SavedBytes:
    """Bytes that a graph keeps for backward, without the model's own parameters and buffers."""

    def __init__(self, model: nn.Module) -> None:
        tensors = [*model.parameters(), *model.buffers()]
        self._own = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        self._sizes: dict[int, int] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._own:
            self._sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # not the tensor: a reference cycle with the graph

    @property
    def total(self) -> int:
        return sum(self._sizes.values())


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor

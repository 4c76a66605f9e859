"""Checks that several processes train as one. Without them a mistake, such as the same batches in all processes, would
pass unnoticed: the training runs, but badly."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn

from cxr.config import UserError
from stage1_classify.data.batches import Batch
from stage1_classify.model.classifier import CaseForward, Classifier
from stage1_classify.training.sampling import EpochSampler

_TOLERANCE = 1e-2  # mixed precision; `run.py --check-distributed` compares closer, and more than one step

# float16 gradients are scaled up and may overflow on a first batch; a power of 2 does not change the digits.
_SMALL = 2.0**-10

# Cases of each process.
_CHECKED_CASES = 4

_ADVICE = "check that all machines have the same code, libraries and data, or train with one process"

LossOf = Callable[[nn.Module, Batch], Tensor]
Backward = Callable[[Tensor], None]


def gather(value: Any) -> list[Any]:
    """The `value` of each process, in all processes. Any object that can be pickled."""
    if not distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def share_buffers(model: nn.Module) -> None:
    """Copy the running statistics of the first process to all, for norms that are not synchronised."""
    if distributed.is_initialized():
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def check_same_weights(model: nn.Module, *, when: str) -> None:
    """Raise a UserError in all processes unless their weights are equal bit for bit."""
    # the sum of a parameter's bits read as integers, which changes with any of them
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = (p.detach().view(integers[p.element_size()]) for p in model.parameters())
    own = torch.stack([values.sum(dtype=torch.int64) for values in bits])
    of_all = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(of_all, own)
    names = [name for name, _ in model.named_parameters()]
    for rank, of_rank in enumerate(of_all):
        differing = torch.nonzero(of_rank != of_all[0]).flatten().tolist()
        if differing:
            raise UserError(
                f"processes: {when} {len(differing)} of {len(names)} parameters of process {rank} differ from those of "
                f"process 0, first {names[differing[0]]}; {_ADVICE}"
            )


def check_processes(
    wrapped: nn.Module,
    model: Classifier,
    sampler: EpochSampler,
    *,
    batch_of: Callable[[Sequence[int]], Batch],
    loss_of: LossOf,
    backward: Backward,
) -> None:
    """Raise a UserError in all processes unless they start alike and make the first step that one process makes.

    Together the processes must have the cases of the epoch's first batch. On at most 4 of them per process, their loss
    and gradient must be those of one process. Norms are in evaluation mode, so that the first process can compute the
    same alone.

    Args:
        wrapped: the module that averages gradients over the processes.
        model: the model inside `wrapped`.
        batch_of: from cases to a batch, as the epoch shows them.
        loss_of: from a module and a batch to the mean loss of the batch's cases.
    """
    check_same_weights(model, when="at the start")
    parts = gather(next(iter(sampler)))
    got, wanted = sorted(case for part in parts for case in part), sorted(sampler.first_batch())
    if got != wanted:
        raise UserError(
            f"processes: their first batches have the cases {got[:8]}..., expected {wanted[:8]}...; {_ADVICE}"
        )
    shown = [batch_of(part[:_CHECKED_CASES]) for part in parts]
    loss, gradients = _loss_and_gradient(wrapped, [shown[distributed.get_rank()]], loss_of, backward)
    distributed.all_reduce(loss)
    loss /= len(parts)
    problem = None
    if distributed.get_rank() == 0:
        expected = _loss_and_gradient(CaseForward(copy.deepcopy(model)), shown, loss_of, backward)
        problem = _difference((loss, gradients), expected)
    problem = gather(problem)[0]
    if problem is not None:
        raise UserError(f"processes: {problem}; {_ADVICE}")


def _loss_and_gradient(
    module: nn.Module, batches: Sequence[Batch], loss_of: LossOf, backward: Backward
) -> tuple[Tensor, Tensor]:
    """Mean loss over the batches and its gradient (P,) for all trained parameters. Leaves no gradient behind."""
    module.zero_grad()
    module.eval()
    losses = []
    for batch in batches:
        loss = loss_of(module, batch)
        backward(loss * (_SMALL / len(batches)))
        losses.append(loss.detach())
    trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    unused = [name for name, parameter in trained if parameter.grad is None]
    if unused:
        raise UserError(
            f"processes: {len(unused)} parameters have no part in the logits, first {unused[0]}, which several "
            "processes cannot train; give another backbone.name or backbone.feature_stage, or train with one process"
        )
    gradients = torch.cat([p.grad.flatten().float() for _, p in trained if p.grad is not None])
    module.zero_grad()
    return torch.stack(losses).mean(), gradients


def _difference(got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> str | None:
    """The difference in words, or None within the tolerance."""
    (loss, gradient), (true_loss, true_gradient) = got, expected
    norm = true_gradient.norm()
    if not torch.isfinite(true_loss + norm):
        return None  # the finite check reports it in detail at the first step
    if not (loss - true_loss).abs() <= _TOLERANCE * true_loss.abs():
        return f"the loss of the first batch is {float(loss):.6g}, with one process {float(true_loss):.6g}"
    error = (gradient - true_gradient).norm()
    if not error <= _TOLERANCE * norm:
        return f"the gradient of the first batch differs by {float(error / norm):.1%} from that of one process"
    return None

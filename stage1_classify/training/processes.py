"""Self-checks of a training over several processes: do they train as one?

Distributed training that fails quietly (gradients that are not averaged, the same batches for all, a starting point
of each process's own) still runs, and learns badly. So it is checked while it runs.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn

from cxr.config import UserError
from stage1_classify.data.batches import Batch
from stage1_classify.model.classifier import CaseForward, Classifier
from stage1_classify.training.epochs import Epochs

_TOLERANCE = 1e-2

# float16 gradients are multiplied by a large scale and may overflow on a first batch; a power of 2 changes no digit.
_SMALL = 2.0**-10

# Cases of each process.
_CHECKED_CASES = 4

_ADVICE = "check that all machines have the same code, libraries and data, or train with one process"

LossOf = Callable[[nn.Module, Batch], Tensor]
Backward = Callable[[Tensor], None]


def gather(value: Any) -> list[Any]:
    """`value` of each process, in all processes; any object that can be pickled."""
    if not distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def share_buffers(model: nn.Module) -> None:
    """Give all processes the running statistics of the first, which differ, having seen other cases."""
    if distributed.is_initialized():
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def check_same_weights(model: nn.Module, *, when: str) -> None:
    """Raise a UserError in all processes unless they hold the same weights, bit for bit."""
    own = torch.stack([_bits(parameter) for parameter in model.parameters()])
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


def _bits(parameter: Tensor) -> Tensor:
    """The sum of the numbers' bits read as integers: changes with any one of them."""
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return parameter.detach().view(integers[parameter.element_size()]).sum(dtype=torch.int64)


def check_processes(
    wrapped: nn.Module, model: Classifier, epochs: Epochs, *, loss_of: LossOf, backward: Backward
) -> None:
    """Raise a UserError in all processes unless they begin alike and make one process's first step.

    The first batch of the epoch is looked at, at most 4 cases of each process: together they must be the cases that
    one process would have, and their loss and gradient those that one process computes of them. Norms are as in
    evaluation, since their statistics of a batch differ by process and are meant to.

    Args:
        wrapped: the module that averages gradients over the processes. model: what it wraps.
        loss_of: (module, batch) to the mean loss of the batch's cases.
    """
    check_same_weights(model, when="at the start")
    parts = gather(epochs.first_rows())
    _check_rows(parts, epochs.first_rows_alone())
    shown = [epochs.batch(part[:_CHECKED_CASES]) for part in parts]
    loss, gradients = _step(wrapped, [shown[distributed.get_rank()]], loss_of, backward)
    distributed.all_reduce(loss)
    loss /= len(parts)
    problem = None
    if distributed.get_rank() == 0:
        expected = _step(CaseForward(copy.deepcopy(model)), shown, loss_of, backward)
        problem = _difference((loss, gradients), expected)
    problem = gather(problem)[0]
    if problem is not None:
        raise UserError(f"processes: {problem}; {_ADVICE}")


def _check_rows(parts: Sequence[Sequence[int]], alone: Sequence[int]) -> None:
    together = sorted(row for part in parts for row in part)
    if together != sorted(alone):
        raise UserError(
            f"processes: their first batches hold cases {together[:8]}..., one process would have "
            f"{sorted(alone)[:8]}...; {_ADVICE}"
        )


def _step(
    module: nn.Module, batches: Sequence[Batch], loss_of: LossOf, backward: Backward
) -> tuple[Tensor, Tensor]:
    """Mean loss over the batches, and its gradient for all that learns, (P,); leaves no gradient behind."""
    module.zero_grad()
    module.eval()
    losses = []
    for batch in batches:
        loss = loss_of(module, batch)
        backward(loss * (_SMALL / len(batches)))
        losses.append(loss.detach())
    learning = [(name, p.grad) for name, p in module.named_parameters() if p.requires_grad]
    unused = [name for name, gradient in learning if gradient is None]
    if unused:
        raise UserError(
            f"processes: {len(unused)} parameters have no part in the logits, first {unused[0]}, which several "
            "processes cannot train; give another backbone.name or backbone.feature_stage, or train with one process"
        )
    gradients = torch.cat([gradient.flatten().float() for _, gradient in learning])
    module.zero_grad()
    return torch.stack(losses).mean(), gradients


def _difference(got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> str | None:
    """What is off by more than the tolerance, in words."""
    (loss, gradient), (true_loss, true_gradient) = got, expected
    norm = true_gradient.norm()
    if not torch.isfinite(true_loss + norm):
        return None  # the sentinel says more of it, at the first step
    if not (loss - true_loss).abs() <= _TOLERANCE * true_loss.abs():
        return (
            f"the loss of the first batch is {float(loss):.6g}, of one process alone {float(true_loss):.6g}"
        )
    error = (gradient - true_gradient).norm()
    if not error <= _TOLERANCE * norm:
        return f"the gradient of the first batch is off by {float(error / norm):.1%} from that of one process alone"
    return None

"""Detects a loss or gradient that is not finite, and finds where it came from."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cxr.config import UserError
from stage1_classify.data.batches import Batch

Outcome = Literal["finite", "skipped", "failed"]

_SHOWN_PARAMETERS = 3


@dataclass
class FiniteCheck:
    """Checks loss and gradient of each optimizer step, with one synchronisation of the device.

    max_skipped: most consecutive steps that may be skipped because scaled float16 gradients overflow, which is how the
    scale is found. None: gradients are not scaled, and every overflow is an error.
    """

    max_skipped: int | None
    in_a_row: int = 0
    skipped: int = 0
    """Skipped steps since training began."""

    def state_dict(self) -> dict[str, int]:
        return {"in_a_row": self.in_a_row, "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.in_a_row, self.skipped = state["in_a_row"], state["skipped"]

    def check(self, loss: Tensor, gradient_norm: Tensor) -> Outcome:
        """finite, skipped (the gradients overflow, which is tolerated) or failed. A loss that is not finite fails."""
        loss_is_finite, norm_is_finite = torch.isfinite(torch.stack([loss, gradient_norm])).tolist()
        if loss_is_finite and norm_is_finite:
            self.in_a_row = 0
            return "finite"
        if not loss_is_finite or self.max_skipped is None:
            return "failed"
        self.in_a_row += 1
        self.skipped += 1
        return "skipped" if self.in_a_row <= self.max_skipped else "failed"


@dataclass(frozen=True)
class NonFinite:
    """Where a value was not finite first. rows: the affected images of the batch; empty if all are."""

    what: str
    batch: Batch
    rows: tuple[int, ...] = ()


def find_non_finite(model: nn.Module, batches: Sequence[Batch], loss_of: Callable[[Batch], Tensor]) -> NonFinite | None:
    """Repeat the batches one by one, and examine the layers of `model`. None if everything is finite this time.

    `loss_of` computes the loss of a batch with `model`. ``autograd.grad`` stores no gradient and waits for no process.
    """
    for batch in batches:
        if not torch.isfinite(batch.images).all():
            return NonFinite("the network's input", batch, _bad_rows(batch.images, len(batch.images)))
        with watched_outputs(model, len(batch.images)) as bad:
            loss = loss_of(batch)
        if bad:
            return NonFinite(f"the output of layer {bad[0][0]}", batch, bad[0][1])
        if not torch.isfinite(loss):
            return NonFinite("the loss, of finite logits", batch)
        names = bad_gradients(model, loss)
        if names:
            more = f" and {len(names) - _SHOWN_PARAMETERS} more" if len(names) > _SHOWN_PARAMETERS else ""
            return NonFinite(f"the gradient of {', '.join(names[:_SHOWN_PARAMETERS])}{more}", batch)
    return None


@contextmanager
def watched_outputs(model: nn.Module, num_images: int) -> Iterator[list[tuple[str, tuple[int, ...]]]]:
    """Collect, in forward order, each layer whose output is not finite, with the affected images."""
    bad: list[tuple[str, tuple[int, ...]]] = []

    def hook_of(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            for tensor in _tensors(output):
                if not torch.isfinite(tensor).all():
                    bad.append((name, _bad_rows(tensor, num_images)))
                    return

        return hook

    handles = [module.register_forward_hook(hook_of(name)) for name, module in model.named_modules() if name]
    try:
        yield bad
    finally:
        for handle in handles:
            handle.remove()


def bad_gradients(model: nn.Module, loss: Tensor) -> list[str]:
    """Names of the parameters whose gradient of `loss` is not finite, last layer first."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, [parameter for _, parameter in named], allow_unused=True)
    pairs = zip(named, gradients, strict=True)
    names = [name for (name, _), gradient in pairs if gradient is not None and not torch.isfinite(gradient).all()]
    return names[::-1]


Explanation = tuple[str | None, list[str]]
"""What was not finite first (None: everything was finite on repetition), and the images of that batch."""


def explain(
    model: nn.Module,
    batches: Sequence[Batch],
    *,
    loss_of: Callable[[Batch], Tensor],
    image_ids: Callable[[Batch], list[str]],
) -> Explanation:
    """`find_non_finite` in words. `image_ids` gives the names of a batch's images."""
    found = find_non_finite(model, batches, loss_of)
    if found is None:
        return None, [name for batch in batches for name in image_ids(batch)]
    names = image_ids(found.batch)
    affected = ", ".join(names[row] for row in found.rows)
    return found.what + (f", for {affected}" if affected else ""), names


def non_finite_error(explanations: Sequence[Explanation], *, where: str) -> UserError:
    """The error that ends a training, from the explanations of all processes."""
    found = [explanation for explanation in explanations if explanation[0] is not None]
    what, names = (found or explanations)[0]
    first = what or "not found when the step was repeated"
    return UserError(
        [
            f"training: the loss or gradient is not finite in {where}; first: {first}",
            f"  images of the batch: {', '.join(names)}",
            "  last.ckpt and best.safetensors are from the last complete epoch; check these images, or train again "
            "with another --out and a lower optimizer.learning_rate or with train.precision=fp32",
        ]
    )


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, dict):
        yield from _tensors(list(output.values()))
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _tensors(part)


def _bad_rows(tensor: Tensor, num_images: int) -> tuple[int, ...]:
    """The images for which `tensor` is not finite; empty if all are, or if its rows are not images."""
    if tensor.ndim == 0 or len(tensor) != num_images:
        return ()
    rows = torch.nonzero(~torch.isfinite(tensor.detach()).reshape(num_images, -1).all(1)).flatten().tolist()
    return tuple(rows) if len(rows) < num_images else ()

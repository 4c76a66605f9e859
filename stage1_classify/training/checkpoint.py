"""Checkpoints: the whole training state for resuming, and the weights for use."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch
from safetensors.torch import save
from torch import nn

from cxr.config import UserError
from cxr.divergence import divergence_error, has_diverged
from cxr.runs.torch_files import save_torch
from cxr.runs.whole_files import whole_file


class Stateful(Protocol):
    """Anything with a state: model, optimizer, schedule, average, gradient scaler."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Any) -> object: ...


@dataclass
class Progress:
    """The state of training after a finished epoch."""

    epoch: int = 0
    steps: int = 0
    """Optimizer steps."""
    best_score: float = float("-inf")
    best_epoch: int = -1
    stale_epochs: int = 0
    relative_loss: float = 0.0
    """Training loss of the last epoch in units of that of constant logits; see `cxr.divergence`."""
    best_relative_loss: float = 0.0
    """That of `best_epoch`."""

    def add_loss(self, relative_loss: float, *, learning_rate: float) -> None:
        """Record the relative loss of the epoch that follows `epoch`. Call it before anything of that epoch is saved.

        Raises:
            UserError: the training has diverged.
        """
        if has_diverged(self.relative_loss, relative_loss):
            known = {self.best_epoch: self.best_relative_loss, self.epoch: self.relative_loss}
            losses = {epoch: loss for epoch, loss in known.items() if epoch > 0}
            raise divergence_error(
                "training",
                losses | {self.epoch + 1: relative_loss},
                best_file="best.safetensors",
                best_epoch=self.best_epoch if self.best_epoch > 0 else None,
                advice=f"optimizer.learning_rate than {learning_rate:g}",
            )
        self.relative_loss = relative_loss

    def update(self, score: float) -> bool:
        """Record the score of `epoch` (higher is better). True if it is the best so far."""
        self.stale_epochs += 1
        if score <= self.best_score and self.best_epoch >= 0:
            return False
        self.best_score, self.best_epoch, self.stale_epochs = score, self.epoch, 0
        self.best_relative_loss = self.relative_loss
        return True


def save_last(path: Path, parts: Mapping[str, Stateful], progress: Progress) -> None:
    """Write the states of `parts` and the progress. A crash leaves either the old file or the complete new one."""
    state = {name: part.state_dict() for name, part in parts.items()} | {"progress": asdict(progress)}
    save_torch(path, state)


def load_last(path: Path, parts: Mapping[str, Stateful]) -> Progress:
    """Restore everything that `save_last` wrote.

    Raises:
        UserError: the file is damaged, or another version of this program wrote other parts.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError, OSError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"run {path.parent}: {path.name} is damaged ({reason}); remove it to train anew") from None
    expected = {*parts, "progress"}
    if state.keys() != expected:
        raise UserError(
            f"run {path.parent}: {path.name} holds {', '.join(sorted(state))}, expected "
            f"{', '.join(sorted(expected))}: another version wrote it; use that version, or give another --out"
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return Progress(**state["progress"])


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the weights as safetensors, with the same guarantee."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with whole_file(path) as partial:
        partial.write_bytes(save(tensors))  # safetensors' own writer does not give the disk's error

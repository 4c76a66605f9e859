"""Checkpoints: the whole state of training for going on, the weights alone for use."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from cxr.config import UserError


class Stateful(Protocol):
    """Model, optimiser, schedule, average, gradient scaler: what has a state to keep."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Any) -> object: ...


@dataclass
class Progress:
    """Where training stands after a finished epoch."""

    epoch: int = 0
    moves: int = 0
    """Of the optimiser."""
    best_score: float = float("-inf")
    best_epoch: int = -1
    stale_epochs: int = 0

    def judge(self, score: float) -> bool:
        """Take note of the score of `epoch`, higher is better; True where it is the best so far."""
        self.stale_epochs += 1
        if score <= self.best_score and self.best_epoch >= 0:
            return False
        self.best_score, self.best_epoch, self.stale_epochs = score, self.epoch, 0
        return True


def save_last(path: Path, parts: Mapping[str, Stateful], progress: Progress) -> None:
    """Write the states of `parts` and the progress: after a crash or power cut either the old file is there or the
    new one, whole."""
    state = {name: part.state_dict() for name, part in parts.items()} | {"progress": asdict(progress)}
    with _put_when_whole(path) as partial:
        torch.save(state, partial)


def load_last(path: Path, parts: Mapping[str, Stateful]) -> Progress:
    """Restore everything that `save_last` wrote.

    Raises:
        UserError: the file is damaged, or of a version of this program that kept other things.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError, OSError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(
            f"run {path.parent}: {path.name} is damaged ({reason}); remove it to train anew"
        ) from None
    expected = {*parts, "progress"}
    if state.keys() != expected:
        raise UserError(
            f"run {path.parent}: {path.name} holds {', '.join(sorted(state))}, expected "
            f"{', '.join(sorted(expected))}: another version wrote it; go on with that one, or give another --out"
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return Progress(**state["progress"])


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the weights alone as safetensors, in the same way."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with _put_when_whole(path) as partial:
        save_file(tensors, partial)


@contextmanager
def _put_when_whole(path: Path) -> Iterator[Path]:
    """Gives a path to write to, and renames only what is on the disk, so that a power cut leaves no empty file under
    the good name. A full disk becomes a UserError; what was written of the file is removed."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:  # the last two by torch and safetensors
        partial.unlink(missing_ok=True)
        reason = " ".join(str(error).split())[:100]
        raise UserError(
            f"run {path.parent}: cannot write {path.name} ({reason}); free some space, then give the same command "
            "again, it goes on after the last whole epoch"
        ) from None
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

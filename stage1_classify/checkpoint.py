"""Checkpoints: the whole state of training for going on, the weights alone for use."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cxr.config import UserError


@dataclass
class Progress:
    """Where training stands after a finished epoch."""

    epoch: int = 0
    best_score: float = float("-inf")
    best_epoch: int = -1
    stale_epochs: int = 0


def save_last(
    path: Path, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler, progress: Progress
) -> None:
    """Write model, optimiser, schedule, random state and progress, atomically."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "progress": asdict(progress),
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load_last(path: Path, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler) -> Progress:
    """Restore everything that `save_last` wrote."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError, OSError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(
            f"run {path.parent}: {path.name} is damaged ({reason}); remove it to train anew"
        ) from None
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["random"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["random_cuda"])
    return Progress(**state["progress"])


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the weights alone as safetensors, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    save_file(tensors, partial)
    partial.replace(path)

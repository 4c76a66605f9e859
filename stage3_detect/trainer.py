"""Ultralytics' detection trainer with what a short training from scratch on grey pictures needs, by subclassing."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from ultralytics.models.yolo.detect import DetectionTrainer


@contextmanager
def kept_threads() -> Iterator[None]:
    """Undo that ultralytics sets torch to one thread fewer than there are cores whenever it picks a CPU."""
    count = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(count)


class PseudoBoxTrainer(DetectionTrainer):
    """Adds to ultralytics' trainer: checkpoints that a kill cannot tear, validation every few epochs, a chosen
    averaging of weights, bf16 on a CPU, all threads; leaves out the final pass that strips and validates again.

    The extra values are attributes that `train.py` sets between construction and training.
    """

    val_every_epochs: int = 1
    averaging_share: float = 0.1
    bf16_on_cpu: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Arguments as of ultralytics' trainer."""
        with kept_threads():
            super().__init__(*args, **kwargs)

    def _setup_train(self) -> Any:
        result = super()._setup_train()
        self._set_averaging()
        return result

    def _load_checkpoint_state(self, ckpt: Any) -> None:
        super()._load_checkpoint_state(ckpt)  # makes a new average of weights
        self._set_averaging()

    def _set_averaging(self) -> None:
        if self.ema is not None:
            window = self.averaging_share * self.epochs * len(self.train_loader)
            self.ema.decay = partial(averaging_factor, window_steps=window)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """As ultralytics', and inside its autocast block switch bf16 on for a CPU, which ultralytics refuses."""
        batch = super().preprocess_batch(batch)
        if self.bf16_on_cpu and self.device.type == "cpu":
            torch.set_autocast_dtype("cpu", torch.bfloat16)
            torch.set_autocast_enabled("cpu", True)  # the block's exit restores both
        return batch

    def validate(self) -> Any:
        """Validate in every n-th epoch and the last; in between no fitness, so `best.pt` stays."""
        due = (self.epoch + 1) % self.val_every_epochs == 0 or self.epoch + 1 >= self.epochs
        return super().validate() if due or self.stop else (self.metrics, None)

    def get_validator(self) -> Any:
        """As ultralytics', without its plots (matplotlib takes seconds; our report draws its own)."""
        validator = super().get_validator()
        validator.args.plots = False
        return validator

    def save_model(self) -> bool:
        """Write `best.pt` and `last.pt` beside their names and move them there whole, `last.pt` last."""
        last, best = self.last, self.best
        self.last, self.best = (path.with_suffix(".partial") for path in (last, best))
        try:
            saved = bool(super().save_model())
            for partial_path, path in ((self.best, best), (self.last, last)):
                if partial_path.is_file():
                    partial_path.replace(path)
        finally:
            self.last, self.best = last, best
        return saved

    def plot_training_labels(self) -> None:
        """Nothing: the audit of labels is stage 2's."""

    def plot_metrics(self) -> None:
        """Nothing: our report draws the curves."""

    def final_eval(self) -> None:
        """Nothing: `train.publish_weights` strips a copy, so that `last.pt` stays usable until the run is done."""


def averaging_factor(step: int, *, window_steps: float) -> float:
    """Weight of the old mean at `step` (from 1): a running mean over `window_steps` that fades in over two windows."""
    if window_steps <= 1:
        return 0.0
    return (1 - 1 / window_steps) * (1 - math.exp(-step / (2 * window_steps)))


def epochs_done(last: Path) -> int | None:
    """Epochs that a checkpoint has behind it; None without one, or where a kill in mid-write left half of it."""
    if not last.is_file():
        return None
    try:
        # our own file: it holds the whole model
        checkpoint = torch.load(last, map_location="cpu", weights_only=False)
        return int(checkpoint["epoch"]) + 1
    except (RuntimeError, EOFError, UnpicklingError, KeyError, TypeError, OSError):
        return None

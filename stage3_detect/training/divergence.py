"""Ends a diverged training of a detector. The rule is `cxr.divergence.has_diverged`.

Ultralytics saves an epoch after its validation, and its first process alone does so. There the trainer compares the
epoch with the one before it, saves nothing if the training has diverged, and stops all processes in ultralytics' own
way. The process that waits for them finds the two epochs in metrics.jsonl.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxr.divergence import divergence_error, has_diverged, relative_loss
from cxr.tracking import read_log

_PARTS = ("train/box_loss", "train/cls_loss", "train/dfl_loss", "train/l1_loss")

_EXPECTED_OBJECTS = 5
"""What a level of an untrained detector expects in an image of 640 x 640 px, by ultralytics' initial biases."""

_NUM_LEVELS = 3


def constant_loss(args: Any) -> float:
    """The loss of an untrained detector, which gives nearly constant outputs, at most.

    Its boxes all miss, so 1 - IoU is 1 and the mean distance of their sides at most the size of the image. In a batch
    without a box, the loss of its scores is their sum.

    Args:
        args: ultralytics' arguments of the training.
    """
    scores = args.batch * _NUM_LEVELS * _EXPECTED_OBJECTS * (args.imgsz / 640) ** 2
    return float(args.box + args.dfl + args.cls * scores)


def is_diverging(trainer: Any) -> bool:
    """Whether the epoch that ends now and the one before it show divergence. Call it before the epoch is saved."""
    losses = _relative_losses(trainer.save_dir.parent, trainer.args)
    now = _relative_loss(trainer.label_loss_items(trainer.tloss), trainer.args)
    return has_diverged(losses.get(trainer.epoch, 0.0), now)


def check_divergence(run_dir: Path, args: Any, *, num_saved: int | None, best_epoch: int | None) -> None:
    """Raise a UserError if a training that has ended did not save its last epoch, because it diverged.

    Args:
        args: ultralytics' arguments of the training.
        num_saved: epochs in last.pt, None without one.
        best_epoch: the epoch of best.pt, from 1; None without one.
    """
    losses = _relative_losses(run_dir, args)
    if losses and (num_saved or 0) < max(losses):
        raise divergence_error(
            f"run {run_dir}",
            losses,
            best_file="train/weights/best.pt",
            best_epoch=best_epoch,
            advice=f"train.learning_rate than {args.lr0:g}",
        )


def _relative_losses(run_dir: Path, args: Any) -> dict[int, float]:
    """By epoch, from 1: what metrics.jsonl holds."""
    return {int(entry["step"]): _relative_loss(entry, args) for entry in read_log(run_dir)}


def _relative_loss(figures: Mapping[str, Any], args: Any) -> float:
    loss = sum(float(figures[name]) for name in _PARTS if name in figures)
    return relative_loss(loss, constant_loss(args))

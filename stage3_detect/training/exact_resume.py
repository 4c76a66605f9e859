"""What ultralytics' checkpoint lacks for a resumed training to equal an undisturbed one.

Ultralytics keeps the averaged weights and the optimizer in 16 bits, no current weights, and no random state. Here the
weights are kept as they are, and everything random depends on (seed, epoch) only. Trainings on several GPUs, whose
processes have statistics of their own, resume as ultralytics does.
"""

import os
import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.utils.torch_utils import unwrap_model

from cxr.runs.torch_files import save_torch

_NAME = "state_{epoch}.pt"


def save_state(trainer: Any) -> None:
    """Write `state_<epoch>.pt` next to the checkpoints, atomically."""
    state = {
        "model": unwrap_model(trainer.model).state_dict(),
        "average": trainer.ema.ema.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
    }
    save_torch(_path(trainer.wdir, trainer.epoch), state)


def remove_other_states(trainer: Any) -> None:
    """Remove the states of other epochs. Call it when the epoch's checkpoint is written."""
    for path in trainer.wdir.glob(_NAME.format(epoch="*")):
        if path != _path(trainer.wdir, trainer.epoch):
            path.unlink()


def restore_state(trainer: Any, epoch: int) -> bool:
    """Load the state after `epoch` (from 0), if there is one; returns whether there was."""
    path = _path(trainer.wdir, epoch)
    if not path.is_file():
        return False
    state = torch.load(path, map_location=trainer.device, weights_only=True)
    unwrap_model(trainer.model).load_state_dict(state["model"])
    trainer.ema.ema.load_state_dict(state["average"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    return True


def seed_epoch(trainer: Any) -> None:
    """A callback at the start of an epoch: order of the images and their augmentation depend on the epoch alone."""
    seed = zlib.crc32(f"{trainer.args.seed} {trainer.epoch}".encode())
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  ultralytics uses numpy's global state
    torch.manual_seed(seed)  # ultralytics seeds albumentations by it
    _forget_images(trainer.train_loader.dataset)
    trainer.train_loader.generator.manual_seed(seed)
    trainer.train_loader.reset()  # starts the workers, if any, again with this seed


def _forget_images(dataset: Any) -> None:
    """Empty the list of the images loaded last, of which a mosaic takes three."""
    if dataset.cache != "ram":
        for index in dataset.buffer:
            dataset.ims[index] = dataset.im_hw0[index] = dataset.im_hw[index] = None
    dataset.buffer.clear()


def _path(folder: os.PathLike[str], epoch: int) -> Path:
    return Path(folder) / _NAME.format(epoch=epoch)

"""Subclass of ultralytics' detection trainer for short trainings from scratch on grey pictures with noisy labels."""

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

from cxr.config import UserError
from eval.report.pictures import save_jpeg
from stage3_detect.labels.yolo_folder import EXTRAS
from stage3_detect.model.checkpoint import read_checkpoint
from stage3_detect.model.classifier_features import ClassifierFeatures
from stage3_detect.training.dataset import IS_REGION, NoisyLabelDataset
from stage3_detect.training.divergence import is_diverging
from stage3_detect.training.exact_resume import remove_other_states, restore_state, save_state, seed_epoch
from stage3_detect.training.loss import NoisyLabelModel
from stage3_detect.training.pictures import batch_picture
from stage3_detect.training.reporting import EpochReport

log = logging.getLogger("raybox")

_LAUNCHER = "RAYBOX_LAUNCHER_PID"
"""Environment variable with the id of the process that started a training on several GPUs."""


@contextmanager
def kept_threads() -> Iterator[None]:
    """Restore torch's number of threads: ultralytics reduces it by one whenever it selects a CPU."""
    count = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(count)


class PseudoBoxTrainer(DetectionTrainer):
    """Ultralytics' trainer with noisy labels, atomic checkpoints, validation every few epochs, a chosen averaging of
    weights, bf16 on a CPU and all threads; without the final pass that strips and validates the weights again.

    Settings that ultralytics has no argument for are in data.yaml. On several GPUs ultralytics starts processes with a
    pickle of this class and its arguments, and each builds its own trainer from them. Callbacks are therefore attached
    in `_do_train`, which runs in the training process. The run folder is the parent of `save_dir`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Arguments as in ultralytics."""
        with kept_threads():
            super().__init__(*args, **kwargs)

    @property
    def extras(self) -> dict[str, Any]:
        """What `train.trainer_extras` gives."""
        return dict(self.data[EXTRAS])

    def train(self) -> Any:
        """As in ultralytics; the processes that it starts end if this one is killed."""
        if self.ddp:
            os.environ[_LAUNCHER] = str(os.getpid())
        try:
            return super().train()
        finally:
            if self.ddp:
                os.environ.pop(_LAUNCHER, None)

    def _do_train(self) -> Any:
        if RANK in (-1, 0):
            EpochReport(self.save_dir.parent, self.extras["tracking"], write_log=RANK == -1).attach(self)
        if RANK == -1:
            self.add_callback("on_train_epoch_start", seed_epoch)
        else:
            self.add_callback("on_train_batch_end", stop_without_launcher)
        try:
            return super()._do_train()
        except RuntimeError:
            if not hasattr(self, "train_loader"):
                raise
            with self.train_loader.dataset.deaths_named():
                raise

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Our data set for training, ultralytics' for validation."""
        if mode != "train":
            return super().build_dataset(img_path, mode, batch)
        args = self.args
        options = {"imgsz": args.imgsz, "batch_size": batch, "augment": True, "cache": args.cache or None, "pad": 0.0}
        return NoisyLabelDataset(img_path, hyp=args, data=self.data, task=args.task, **options)

    def get_model(self, cfg: str | dict[str, Any] | None = None, weights: Any = None, verbose: bool = True) -> Any:
        """As in ultralytics, with our loss; the first stages of a classifier's network are frozen."""
        model: Any = NoisyLabelModel(cfg, nc=self.data["nc"], ch=self.data["channels"], verbose=False)
        model.shared_iou = self.extras["shared_boxes_iou"]
        self.set_model_names_for_load(model)
        if weights:
            model.load(weights, verbose=verbose)
        if isinstance(features := model.model[0], ClassifierFeatures):
            frozen = features.names_up_to(self.extras["backbone_frozen_stride"])
            self.args.freeze = [f"0.{name}" for name in frozen]  # ultralytics adds "model." in front
        return model

    def get_class_counts(self) -> Any:
        """Number of boxes per class in an epoch, for ultralytics' class weights; ignore regions do not count."""
        rows = [label["cls"] for label in self.train_loader.dataset.labels]
        table = np.concatenate([np.zeros((0, 3)), *rows])
        classes = table[table[:, 1 + IS_REGION] == 0, 0].astype(int)
        return np.bincount(classes, minlength=self.data["nc"]).astype(np.float32)

    def plot_training_samples(self, batch: dict[str, Any], ni: int) -> None:
        """In place of ultralytics' picture, whose captions cover each other and which knows no ignore regions."""
        save_jpeg(self.save_dir / f"train_batch{ni}.jpg", batch_picture(batch, self.data["names"]))

    def build_optimizer(self, model: Any, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """As in ultralytics; a classifier's network is in groups of its own, with a lower learning rate."""
        optimizer: torch.optim.Optimizer = super().build_optimizer(model, *args, **kwargs)
        inner: Any = unwrap_model(model)
        features = inner.model[0]
        if isinstance(features, ClassifierFeatures):
            share = self.extras["backbone_learning_rate_share"]
            inside = {id(parameter) for parameter in features.parameters()}
            for group in list(optimizer.param_groups):
                own = [parameter for parameter in group["params"] if id(parameter) in inside]
                group["params"] = [parameter for parameter in group["params"] if id(parameter) not in inside]
                optimizer.add_param_group({**group, "params": own, "lr": share * group["lr"]})
        return optimizer

    def _setup_train(self) -> None:
        super()._setup_train()
        self._set_averaging()

    def _load_checkpoint_state(self, ckpt: Any) -> None:
        super()._load_checkpoint_state(ckpt)  # creates a new average of weights
        self._set_averaging()

    def resume_training(self, ckpt: Any) -> None:
        """As in ultralytics, then with the exact weights and optimizer of that epoch, unless on several GPUs."""
        super().resume_training(ckpt)
        if RANK == -1 and self.resume and ckpt is not None and not restore_state(self, int(ckpt["epoch"])):
            log.warning("stage3: no exact state of the last epoch; the training resumes from weights in 16 bits")

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """As in ultralytics; also stops in the first epoch, after which ultralytics alone continues and saves zeros."""
        recovered = bool(super()._handle_nan_recovery(epoch))
        if not recovered and self.loss is not None and not self.loss.isfinite():
            raise RuntimeError(f"NaN or infinity in epoch {epoch + 1}")
        return recovered

    def _set_averaging(self) -> None:
        if self.ema is not None:
            window = self.extras["ema_share"] * self.epochs * len(self.train_loader)
            self.ema.decay = partial(averaging_factor, window_steps=window)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """As in ultralytics; also enables bf16 on a CPU, which ultralytics does not support, in its autocast block."""
        batch = super().preprocess_batch(batch)
        if self.extras["bf16_on_cpu"] and self.device.type == "cpu":
            torch.set_autocast_dtype("cpu", torch.bfloat16)
            torch.set_autocast_enabled("cpu", True)  # leaving the block restores both
        return batch

    def validate(self) -> Any:
        """Validate in every n-th epoch and the last; other epochs have no fitness and leave `best.pt` unchanged."""
        due = (self.epoch + 1) % self.extras["val_every_epochs"] == 0 or self.epoch + 1 >= self.epochs
        return super().validate() if due or self.stop else (self.metrics, None)

    def get_validator(self) -> Any:
        """As in ultralytics, without its plots, which take seconds; our report has its own."""
        validator = super().get_validator()
        validator.args.plots = False
        return validator

    def save_model(self) -> bool:
        """Write `best.pt`, `last.pt` and the exact state under temporary names, then rename them, `last.pt` last.

        A diverged training ends here, before anything of its last epoch is written; see `divergence`.
        """
        if is_diverging(self):
            self.stop = True
            return False
        last, best = self.last, self.best
        self.last, self.best = (path.with_suffix(".partial") for path in (last, best))
        try:
            saved = bool(super().save_model())
            if RANK == -1:
                save_state(self)
            for partial_path, path in ((self.best, best), (self.last, last)):
                if partial_path.is_file():
                    partial_path.replace(path)
            remove_other_states(self)
        finally:
            self.last, self.best = last, best
        return saved

    def plot_training_labels(self) -> None:
        """Does nothing, because stage 2 audits the labels."""

    def plot_metrics(self) -> None:
        """Does nothing, because our report plots the curves."""

    def final_eval(self) -> None:
        """Does nothing: `train.publish_weights` strips a copy, so `last.pt` can resume until the run is finished."""


def stop_without_launcher(_: Any) -> None:
    """End this process if the one that started it is gone, because the next call starts new processes.

    Raises:
        SystemExit: the starting process is gone.
    """
    launcher = os.environ.get(_LAUNCHER)
    if launcher is None:
        return
    try:
        os.kill(int(launcher), 0)  # signal 0 only tests whether the process exists
    except ProcessLookupError:
        raise SystemExit("the process that started this training is gone") from None
    except PermissionError:
        pass


def averaging_factor(step: int, *, window_steps: float) -> float:
    """Weight of the previous mean at `step` (from 1): 1 - 1 / window, reached gradually, by 63 % after two windows."""
    if window_steps <= 1:
        return 0.0
    return (1 - 1 / window_steps) * (1 - math.exp(-step / (2 * window_steps)))


def epochs_done(last: Path) -> int | None:
    """Number of finished epochs in a checkpoint; None if it is missing or incomplete."""
    if not last.is_file():
        return None
    try:
        checkpoint = read_checkpoint(last, what="run", advice="it is not used")
        return int(checkpoint["epoch"]) + 1
    except (UserError, KeyError, TypeError):
        return None

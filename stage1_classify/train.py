"""The training loop: AdamW, one-cycle schedule, clipping, early stopping, through Lightning Fabric."""

import logging
import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from cxr.config import UserError
from cxr.hardware import computes_in_bf16
from cxr.progress import track
from cxr.tracking import Tracker
from eval.classification import choose_thresholds, classification_metrics
from stage1_classify.augment import Augmentation
from stage1_classify.checkpoint import Progress, load_last, save_last, save_weights
from stage1_classify.config import Stage1Settings
from stage1_classify.data import EpochSampler, Split, TrainingSet, training_loader
from stage1_classify.losses import masked_bce, positive_weights
from stage1_classify.model import Classifier, start_from_run
from stage1_classify.predict import predict_logits, sigmoid

log = logging.getLogger("raybox")
logging.getLogger("lightning_fabric").setLevel(
    logging.WARNING
)  # it announces the precision; the manifest says it


def make_fabric(settings: Stage1Settings) -> Fabric:
    """One process, or as many as ``torchrun`` started."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    num_nodes = int(os.environ.get("WORLD_SIZE", "1")) // local
    strategy = "ddp" if local * num_nodes > 1 else "auto"
    precision = settings.train.precision
    if precision == "auto":
        device_type = "cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu"
        precision = "bf16-mixed" if computes_in_bf16(device_type) else "32-true"
    fabric = Fabric(
        accelerator="auto",
        devices=local,
        num_nodes=num_nodes,
        strategy=strategy,
        precision=precision,
    )
    fabric.launch()
    return fabric


def fit(fabric: Fabric, train: Split, val: Split, settings: Stage1Settings, run_dir: Path) -> Progress:
    """Train until the epochs or the patience are spent; go on from ``last.ckpt`` where there is one.

    Writes ``last.ckpt`` after every epoch and ``best.safetensors`` whenever validation improves.
    """
    check_selectable(val.targets, settings)
    trainer = Trainer(fabric, train, settings, run_dir)
    tracker = Tracker(run_dir, settings.tracking) if fabric.is_global_zero else None
    while not trainer.is_done:
        figures = trainer.train_epoch()
        with fabric.autocast():
            figures |= validate(trainer.model, val, settings, device=fabric.device)
        figures = fabric.broadcast(figures)  # running statistics may differ by process; the decision must not
        trainer.end_epoch(figures)
        if tracker is not None:
            tracker.log(trainer.progress.epoch, figures)
            log.info("epoch %d  %s", trainer.progress.epoch, _line(figures))
    if tracker is not None:
        tracker.finish()
    return trainer.progress


class Trainer:
    """Model, optimiser, schedule and progress of one training."""

    def __init__(self, fabric: Fabric, train: Split, settings: Stage1Settings, run_dir: Path) -> None:
        self._fabric, self._settings, self._run_dir = fabric, settings, run_dir
        torch.manual_seed(settings.seed)
        self.model = Classifier(settings).to(memory_format=torch.channels_last)
        if settings.init_from is not None:
            start_from_run(self.model, settings.init_from)
        self._items = TrainingSet(
            train.pictures,
            train.targets,
            Augmentation(settings.augment),
            num_channels=settings.backbone.in_channels,
            seed=settings.seed,
        )
        self._sampler = EpochSampler(
            len(train.pictures),
            settings.train.batch_size,
            seed=settings.seed,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
        )
        self._optimizer = AdamW(self._parameter_groups(), lr=settings.optimizer.learning_rate)
        self._schedule = OneCycleLR(
            self._optimizer,
            max_lr=settings.optimizer.learning_rate,
            total_steps=max(3, settings.train.num_epochs * len(self._sampler)),
            pct_start=max(
                settings.schedule.warmup, 2 / max(3, settings.train.num_epochs * len(self._sampler))
            ),
        )
        weights = positive_weights(train.targets, cap=settings.loss.max_positive_weight)
        self._positive_weight = torch.from_numpy(weights).to(fabric.device)
        self.progress = Progress()
        if self._last.is_file():
            self.progress = load_last(self._last, self.model, self._optimizer, self._schedule)
            log.info("going on after epoch %d", self.progress.epoch)
        self._wrapped, self._optimizer = fabric.setup(self.model, self._optimizer)

    @property
    def _last(self) -> Path:
        return self._run_dir / "last.ckpt"

    @property
    def is_done(self) -> bool:
        """All epochs made, or no better validation for `patience` epochs."""
        train = self._settings.train
        return self.progress.epoch >= train.num_epochs or self.progress.stale_epochs >= train.patience

    def _parameter_groups(self) -> list[dict[str, object]]:
        """Weight decay for weight matrices alone; not for biases and norms."""
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim <= 1]
        decay = self._settings.optimizer.weight_decay
        return [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]

    def train_epoch(self) -> dict[str, float | None]:
        """One pass over the training split; the mean loss and the learning rate at its end."""
        self._items.epoch = self._sampler.epoch = self.progress.epoch
        loader = training_loader(self._items, self._sampler, num_workers=self._settings.train.num_workers)
        self._wrapped.train()
        total = torch.zeros((), device=self._fabric.device)
        description = f"epoch {self.progress.epoch + 1} of {self._settings.train.num_epochs}"
        for batch in track(loader, description, total=len(self._sampler), show=self._fabric.is_global_zero):
            total += self._step(batch)
        loss = float(self._fabric.all_reduce(total / len(self._sampler), reduce_op="mean"))
        rate = float(self._schedule.get_last_lr()[0])
        return {"train/loss": loss, "train/learning_rate": rate}

    def _step(self, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        images, targets, indices = batch
        device, settings = self._fabric.device, self._settings.train
        images = images.to(device, memory_format=torch.channels_last)
        loss = masked_bce(
            self._wrapped(images),
            targets.to(device),
            positive_weight=self._positive_weight,
            smoothing=self._settings.loss.label_smoothing,
        )
        if not torch.isfinite(loss):
            raise UserError(
                f"training: the loss is {float(loss)} in epoch {self.progress.epoch + 1} on image rows "
                f"{indices.tolist()[:8]}; lower optimizer.learning_rate or use train.precision=32-true"
            )
        self._optimizer.zero_grad()
        self._fabric.backward(loss)
        self._fabric.clip_gradients(self._wrapped, self._optimizer, max_norm=settings.clip_norm)
        self._optimizer.step()
        self._schedule.step()
        return loss.detach()

    def end_epoch(self, figures: dict[str, float | None]) -> None:
        """Judge the epoch, keep the best weights, save everything for going on."""
        self.progress.epoch += 1
        score = selecting_score(figures, self._settings.train.select_by)
        self.progress.stale_epochs += 1
        if score > self.progress.best_score or self.progress.best_epoch < 0:
            self.progress.best_score, self.progress.best_epoch = score, self.progress.epoch
            self.progress.stale_epochs = 0
            if self._fabric.is_global_zero:
                save_weights(self._run_dir / "best.safetensors", self.model)
        if self._fabric.is_global_zero:
            save_last(self._last, self.model, self._optimizer.optimizer, self._schedule, self.progress)
        self._fabric.barrier()


def validate(
    model: Classifier, val: Split, settings: Stage1Settings, *, device: torch.device
) -> dict[str, float | None]:
    """Loss, mean AUROC and mean F1 on validation, over the findings with enough positives.

    Every process computes all of it: no gathering, no duplicates, the same decision everywhere.
    """
    logits = predict_logits(model, val.pictures, num_channels=settings.backbone.in_channels, device=device)
    loss = masked_bce(
        torch.from_numpy(logits), torch.from_numpy(val.targets), positive_weight=torch.ones(logits.shape[1])
    )
    probabilities = sigmoid(logits)
    metrics = classification_metrics(
        val.targets,
        probabilities,
        findings=settings.findings,
        thresholds=choose_thresholds(val.targets, probabilities),
        groups=None,
        num_resamples=0,
        min_positives=settings.train.min_positives,
    )
    figures: dict[str, float | None] = {"val/loss": float(loss)}
    return figures | {f"val/{name}": metrics[f"{name}/mean"] for name in ("auroc", "f1", "auprc")}


def check_selectable(targets: npt.NDArray[np.float32], settings: Stage1Settings) -> None:
    """Raise a UserError where no finding has enough positives (and a negative) on validation to choose an epoch by."""
    train = settings.train
    enough = (np.nansum(targets == 1, axis=0) >= train.min_positives) & (targets == 0).any(axis=0)
    if train.select_by != "loss" and not enough.any():
        raise UserError(
            f"train.select_by={train.select_by}: no finding has {train.min_positives} positives and a negative among "
            f"{len(targets)} validation images; lower train.min_positives, enlarge val, or set train.select_by=loss"
        )


def selecting_score(figures: dict[str, float | None], select_by: str) -> float:
    """Higher is better; minus infinity where the figure does not exist."""
    value = figures[f"val/{select_by}"]
    if value is None or math.isnan(value):
        return float("-inf")
    return -value if select_by == "loss" else value


def _line(figures: dict[str, float | None]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items() if value is not None)

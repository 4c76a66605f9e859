"""The training loop, through Lightning Fabric: one process or many, any precision, gone on with where it was left."""

import logging
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cxr.config import UserError
from cxr.progress import track
from cxr.tracking import Tracker
from stage1_classify.data.batches import Batch, Split
from stage1_classify.model.classifier import CaseForward, Classifier, start_from_run
from stage1_classify.model.predict import predict_logits
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.training.averaging import make_average
from stage1_classify.training.checkpoint import Progress, Stateful, load_last, save_last, save_weights
from stage1_classify.training.epochs import Epochs, in_groups
from stage1_classify.training.finite_check import Sentinel, explain, not_finite
from stage1_classify.training.freezing import Freezing
from stage1_classify.training.optimizers import make_optimizer, make_schedule
from stage1_classify.training.processes import check_processes, check_same_weights, gather, share_buffers
from stage1_classify.training.validation import (
    EveryNth,
    Figures,
    check_selectable,
    interleaved,
    selecting_score,
    validation_figures,
)

log = logging.getLogger("raybox")


def fit(fabric: Fabric, train: Split, val: Split, settings: Stage1Settings, run_dir: Path) -> Progress:
    """Train until the epochs or the patience are spent; go on from ``last.ckpt`` where there is one.

    Writes ``last.ckpt`` after every epoch and ``best.safetensors`` whenever validation improves; with an average of
    the weights (train.ema_decay) it is the average that is validated and kept.

    With hierarchy.conditional_epochs there are two phases: in the first a child is trained only where its parent is
    positive; in the second the backbone is frozen and the head learns from everything. Early stopping, the schedule
    `plateau` and the choice of the best model see the second phase alone.

    Raises:
        UserError: a loss or gradient is not finite, or several processes do not train as one.
    """
    check_selectable(val.targets, settings)
    trainer = Trainer(fabric, train, settings, run_dir)
    tracker = Tracker(run_dir, settings.tracking) if fabric.is_global_zero else None
    while not trainer.is_done:
        figures = trainer.train_epoch() | trainer.validate(val)
        if tracker is not None:  # before the epoch counts as made: after a kill it is logged anew, not lost
            tracker.log(trainer.progress.epoch + 1, figures)
        trainer.end_epoch(figures)
        if tracker is not None:
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
        fabric.to_device(self.model)
        self._average = make_average(self.model, settings.train.ema_decay)
        self._epochs = Epochs(train, settings, rank=fabric.global_rank, world_size=fabric.world_size)
        conditional_epochs = settings.hierarchy.conditional_epochs
        self._freezing = Freezing(self.model.backbone, settings.freeze, conditional_epochs=conditional_epochs)
        optimizer = make_optimizer(self.model, settings.optimizer)
        self._schedule = make_schedule(
            optimizer,
            settings.schedule,
            num_epochs=settings.train.num_epochs,
            moves_per_epoch=-(-len(self._epochs) // settings.train.accumulate_steps),
        )
        self._optimizer = fabric.setup_optimizers(optimizer)
        self._scaler = getattr(fabric.strategy.precision, "scaler", None)
        self._sentinel = Sentinel(settings.train.max_skipped_steps if self._scaler is not None else None)
        self._wrapped: nn.Module | None = None
        self._note = ""
        self.progress = Progress()
        if self._last.is_file():
            self.progress = load_last(self._last, self._stateful())
            log.info("going on after epoch %d", self.progress.epoch)

    @property
    def _last(self) -> Path:
        return self._run_dir / "last.ckpt"

    def _stateful(self) -> dict[str, Stateful]:
        """What a training goes on from; order, freezing and random numbers follow from the epoch."""
        parts: dict[str, Stateful] = {"model": self.model, "optimizer": self._optimizer.optimizer}
        parts |= {"schedule": self._schedule, "sentinel": self._sentinel}
        optional = {"average": self._average, "scaler": self._scaler}
        return parts | {name: part for name, part in optional.items() if part is not None}

    @property
    def is_done(self) -> bool:
        """All epochs made, or no better validation for `patience` epochs."""
        train = self._settings.train
        return self.progress.epoch >= train.num_epochs or self.progress.stale_epochs >= train.patience_epochs

    @property
    def judged(self) -> Classifier:
        """What is validated and kept: the average of the weights, where there is one."""
        return self.model if self._average is None else self._average.module

    def train_epoch(self) -> Figures:
        """One pass over the training cases: mean loss, the head's rate at its end, images a second."""
        self._begin_epoch()
        bar = track(
            self._epochs.loader(),
            f"epoch {self.progress.epoch + 1} of {self._settings.train.num_epochs}",
            total=len(self._epochs),
            show=self._fabric.is_global_zero,
            note=self._note,
            images_in=lambda batch: len(batch.images) * self._fabric.world_size,
        )
        total, num_images = torch.zeros((), device=self._fabric.device), 0
        begin = time.perf_counter()
        for step, batches in enumerate(in_groups(bar, self._settings.train.accumulate_steps), start=1):
            total += self._move(batches, step)
            num_images += sum(len(batch.images) for batch in batches)
        loss = float(total / len(self._epochs))
        seconds = time.perf_counter() - begin
        figures: Figures = {
            "train/loss": loss,
            "train/learning_rate": self._schedule.rate,
            "train/images_per_second": sum(gather(num_images)) / seconds,
        }
        return figures | ({"train/skipped_steps": self._sentinel.skipped} if self._scaler else {})

    def _begin_epoch(self) -> None:
        """Everything that follows from the epoch's number, the random numbers of dropout included."""
        epoch, fabric = self.progress.epoch, self._fabric
        self._epochs.begin(epoch, fabric.device)
        if self._freezing.begin(epoch):
            self._wrap()
        self._wrapped.train()
        self._freezing.keep_statistics()
        # last, since the above draws more after an interruption than without one
        torch.manual_seed(zlib.crc32(f"{self._settings.seed} {epoch} {fabric.global_rank}".encode()))

    def _wrap(self) -> None:
        """Set up what is called in training; anew when other parts learn, since DDP takes note of them only here."""
        if self._freezing.is_partial or self._wrapped is not None:
            log.info(
                "from epoch %d on learn: %s", self.progress.epoch + 1, ", ".join(self._freezing.learning)
            )
        self._wrapped = None
        module = CaseForward(self.model)
        if self._settings.train.compile:
            module.compile()  # in place, so that the names of the weights stay
        self._wrapped = self._fabric.setup_module(module)
        if self._fabric.world_size > 1:
            check_processes(
                self._wrapped,
                self.model,
                self._epochs,
                loss_of=self._loss_outside,
                backward=self._fabric.backward,
            )

    def _move(self, batches: Sequence[Batch], step: int) -> Tensor:
        """Add up the gradients of some batches, then move the weights once; the sum of the batches' losses."""
        self._optimizer.zero_grad()
        total = torch.zeros((), device=self._fabric.device)
        for number, batch in enumerate(batches, start=1):
            with self._fabric.no_backward_sync(self._wrapped, enabled=number < len(batches)):
                loss = self._loss_of(self._wrapped, batch)
                self._fabric.backward(loss / len(batches))
            total += loss.detach()
        total = self._fabric.all_reduce(total, reduce_op="mean")
        norm = self._fabric.clip_gradients(
            self._wrapped, self._optimizer, max_norm=self._settings.train.clip_norm, error_if_nonfinite=False
        )
        verdict = self._sentinel.judge(total, norm)
        if verdict == "broken":
            raise self._explained(batches, step)
        self._optimizer.step()  # after an overflow the gradient scaler leaves the weights and lowers its scale
        if verdict == "fine":
            self.progress.moves += 1
            self._schedule.after_move()
            if self._average is not None:
                self._average.update(self.model, step=self.progress.moves)
        return total

    def _loss_of(self, module: nn.Module, batch: Batch) -> Tensor:
        """Mean loss over the batch's cases; `module` is a CaseForward, wrapped or not."""
        device = self._fabric.device
        images = batch.images.to(device, memory_format=torch.channels_last, non_blocking=True)
        try:
            outputs = module(images, batch.cases.to(device, non_blocking=True), len(batch.targets))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(
                "train.batch_size: one image a process is too few for the batch norms of this backbone; give 2 or more"
            ) from None
        return self._epochs.loss(outputs, batch.targets.to(device, non_blocking=True))

    def validate(self, val: Split) -> Figures:
        """Figures of the judged model; each process predicts its share of the pictures, all get all figures."""
        if self._fabric.world_size > 1:
            check_same_weights(self.model, when=f"after epoch {self.progress.epoch + 1}")
        share_buffers(self.judged)
        fabric = self._fabric
        pictures = EveryNth(val.pictures, fabric.global_rank, fabric.world_size)
        with fabric.autocast():
            own = predict_logits(
                self.judged,
                pictures,
                num_channels=self._settings.backbone.in_channels,
                device=fabric.device,
                progress=fabric.is_global_zero,
            )
        figures = validation_figures(interleaved(gather(own)), val, self._settings)
        self._note = _line(figures)
        return fabric.broadcast(figures)  # machines may round differently; the decision must be one

    def end_epoch(self, figures: Figures) -> None:
        """Judge the epoch, keep the best weights, save everything for going on."""
        progress = self.progress
        progress.epoch += 1
        counts = progress.epoch > self._settings.hierarchy.conditional_epochs
        score = selecting_score(figures, self._settings.train.select_by) if counts else None
        self._schedule.after_epoch(score)
        is_best = score is not None and progress.judge(score)
        if self._fabric.is_global_zero:
            if is_best:
                save_weights(self._run_dir / "best.safetensors", self.judged)
            save_last(self._last, self._stateful(), progress)
        self._fabric.barrier()

    def _loss_outside(self, module: nn.Module, batch: Batch) -> Tensor:
        """`_loss_of` a module that Fabric did not wrap, in the same precision."""
        with self._fabric.autocast():
            return self._loss_of(module, batch)

    def _explained(self, batches: Sequence[Batch], step: int) -> UserError:
        """The error of a move that is not finite; each process looks at its own batches."""
        scale = self._scaler.get_scale() if self._scaler is not None else 1.0
        found = explain(
            self.model,
            batches,
            loss_of=lambda batch: self._loss_outside(CaseForward(self.model), batch) * scale,
            image_ids=self._epochs.image_ids,
        )
        return not_finite(gather(found), where=f"epoch {self.progress.epoch + 1}, step {step}")


def _line(figures: Figures) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items() if value is not None)

"""One training, epoch by epoch, on Lightning Fabric: one process or several, any precision, resumes."""

import logging
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule, _FabricOptimizer
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cxr.config import UserError
from cxr.divergence import relative_loss
from cxr.metrics import Metrics
from cxr.progress import track
from stage1_classify.data.augment import Augmentation
from stage1_classify.data.batches import Batch, Split, TrainingSet, collate, training_loader
from stage1_classify.data.hierarchy import make_hierarchy
from stage1_classify.model.classifier import CaseForward, Classifier, start_from_run
from stage1_classify.model.predict import predict_logits
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.training.batch_norms import synchronise_batch_norms
from stage1_classify.training.checkpoint import Progress, Stateful, load_last, save_last, save_weights
from stage1_classify.training.computation import MEMORY_FORMATS
from stage1_classify.training.finite_check import FiniteCheck, explain, non_finite_error
from stage1_classify.training.freezing import Freezing
from stage1_classify.training.losses import training_loss
from stage1_classify.training.moving_labels import MovingLabels
from stage1_classify.training.optimizers import make_optimizer, make_schedule
from stage1_classify.training.processes import check_processes, check_same_weights, gather, share_buffers
from stage1_classify.training.sampling import make_sampler
from stage1_classify.training.validation import interleaved, one_line, selecting_score, validation_figures

log = logging.getLogger("raybox")


class Trainer:
    """Model, optimizer, schedule and progress of one training. Use `fit` to run it.

    Cases, augmentation and freezing of an epoch depend on (seed, epoch) only, so a resumed training repeats an
    uninterrupted one bit for bit, and several processes see the cases of one.
    """

    def __init__(self, fabric: Fabric, train: Split, settings: Stage1Settings, run_dir: Path) -> None:
        self._fabric, self._train, self._settings, self._run_dir = fabric, train, settings, run_dir
        self._last = run_dir / "last.ckpt"
        torch.manual_seed(settings.seed)
        assert settings.train.memory_format != "auto", "see with_computation"
        self._memory_format = MEMORY_FORMATS[settings.train.memory_format]
        self.model = Classifier(settings).to(memory_format=self._memory_format)
        if settings.init_from is not None:
            start_from_run(self.model, settings.init_from)
        fabric.to_device(self.model)
        if fabric.world_size > 1:
            synchronise_batch_norms(self.model, fabric.device)
        decay = settings.train.ema_decay
        self._average = None if decay is None else ModelEmaV3(self.model, decay=decay, use_warmup=True)
        self._sampler = make_sampler(
            train.targets, settings, sets=train.sets, rank=fabric.global_rank, world_size=fabric.world_size
        )
        self._freezing = Freezing(
            self.model.backbones, settings.freeze, conditional_epochs=settings.hierarchy.conditional_epochs
        )
        optimizer = make_optimizer(self.model, settings.optimizer)
        self._schedule = make_schedule(
            optimizer,
            settings.schedule,
            num_epochs=settings.train.num_epochs,
            steps_per_epoch=-(-len(self._sampler) // settings.train.accumulate_steps),
            cycle_epochs=settings.freeze.cycle_epochs,
        )
        self._optimizer = cast(_FabricOptimizer, fabric.setup_optimizers(optimizer))
        self._scaler = getattr(fabric.strategy.precision, "scaler", None)
        self._finite = FiniteCheck(settings.train.max_skipped_steps if self._scaler is not None else None)
        self._wrapped: _FabricModule | None = None
        self._note = ""
        self._relative_loss = 0.0
        self.progress = Progress()
        share = settings.labels.moving_share
        self._moving = None if share is None else MovingLabels(train.targets, share=share)
        self._moving_from = max(settings.labels.moving_after_epochs, settings.hierarchy.conditional_epochs)
        if self._last.is_file():
            self.progress = load_last(self._last, self._stateful())
            log.info("resuming after epoch %d", self.progress.epoch)

    def _stateful(self) -> dict[str, Stateful]:
        """Everything that a checkpoint holds, except the progress."""
        parts: dict[str, Stateful] = {"model": self.model, "optimizer": self._optimizer.optimizer}
        parts |= {"schedule": self._schedule, "finite_check": self._finite}
        optional = {"average": self._average, "scaler": self._scaler, "moving_labels": self._moving}
        return parts | {name: part for name, part in optional.items() if part is not None}

    @property
    def is_done(self) -> bool:
        """Whether `num_epochs` are trained, or validation has not improved for `patience_epochs`."""
        train = self._settings.train
        return self.progress.epoch >= train.num_epochs or self.progress.stale_epochs >= train.patience_epochs

    @property
    def kept_model(self) -> Classifier:
        """The model that is validated and saved: the average of the weights, if there is one."""
        return self.model if self._average is None else self._average.module

    def train_epoch(self) -> Metrics:
        """One pass over the training cases: mean loss, the head's learning rate at the end, images per second."""
        self._begin_epoch()
        batches = iter(
            track(
                self._loader(),
                f"epoch {self.progress.epoch + 1} of {self._settings.train.num_epochs}",
                total=len(self._sampler),
                show=self._fabric.is_global_zero,
                note=self._note,
                images_in=lambda batch: len(batch.images) * self._fabric.world_size,
            )
        )
        total, num_images, step = torch.zeros(2, device=self._fabric.device), 0, 0
        begin = time.perf_counter()
        with self._items.deaths_named():
            while group := list(islice(batches, self._settings.train.accumulate_steps)):
                step += 1
                total += self._step(group, step)
                num_images += sum(len(batch.images) for batch in group)
        loss, constant_loss = (total / len(self._sampler)).tolist()
        # machines may round differently, but must decide alike
        self._relative_loss = self._fabric.broadcast(relative_loss(loss, constant_loss))
        figures: Metrics = {
            "train/loss": loss,
            "train/learning_rate": self._schedule.rate,
            "train/images_per_second": sum(gather(num_images)) / (time.perf_counter() - begin),
        }
        return figures | ({"train/skipped_steps": self._finite.skipped} if self._scaler else {})

    def _begin_epoch(self) -> None:
        epoch, fabric = self.progress.epoch, self._fabric
        self._prepare_data(epoch)
        self._schedule.begin_epoch(epoch)
        if self._freezing.begin(epoch) or self._wrapped is None:
            self._wrapped = self._wrap()
        self._wrapped.train()
        self._freezing.keep_statistics()
        # last, because the lines above use more random numbers after an interruption than without one
        torch.manual_seed(zlib.crc32(f"{self._settings.seed} {epoch} {fabric.global_rank}".encode()))

    def _prepare_data(self, epoch: int) -> None:
        """Targets, order, augmentation and loss of the epoch."""
        settings = self._settings
        targets = self._train.targets if self._moving is None else self._moving.targets
        if epoch < settings.hierarchy.conditional_epochs:
            targets = make_hierarchy(settings.hierarchy, settings.findings).conditional(targets)
        self._items = TrainingSet(
            replace(self._train, targets=targets),
            Augmentation(settings.augment, crop_hw=settings.input.crop_hw),
            num_channels=settings.backbone.in_channels,
            seed=settings.seed,
        )
        self._items.epoch = self._sampler.epoch = epoch
        self._loss = training_loss(targets, settings).to(self._fabric.device)

    def _loader(self) -> DataLoader[Batch]:
        return training_loader(self._items, self._sampler, num_workers=self._settings.train.num_workers)

    def _wrap(self) -> _FabricModule:
        """The module to call in training. DDP reads here which parameters are trained, so a change needs a new one."""
        if self._freezing.is_partial or self._wrapped is not None:
            log.info("from epoch %d on, trained: %s", self.progress.epoch + 1, ", ".join(self._freezing.learning))
        self._wrapped = None
        module = CaseForward(self.model)
        if self._settings.train.compile:
            module.compile()  # in place, so that the names of the weights stay
        wrapped = self._fabric.setup_module(module)
        if self._fabric.world_size > 1:
            check_processes(
                wrapped,
                self.model,
                self._sampler,
                batch_of=lambda cases: collate([self._items[case] for case in cases]),
                loss_of=self._loss_outside,
                backward=self._fabric.backward,
            )
        return wrapped

    def _step(self, batches: Sequence[Batch], number: int) -> Tensor:
        """One optimizer step: average the gradients of the batches, update the weights.

        Returns:
            (2,) sums over the batches: of their losses, and of the losses that logits of 0 have.
        """
        assert self._wrapped is not None
        self._optimizer.zero_grad()
        total = torch.zeros(2, device=self._fabric.device)
        for position, batch in enumerate(batches, start=1):
            with self._fabric.no_backward_sync(self._wrapped, enabled=position < len(batches)):
                outputs = self._outputs_of(self._wrapped, batch)
                loss = self._loss_of_outputs(outputs, batch)
                self._fabric.backward(loss / len(batches))
            if self._moving is not None and self.progress.epoch >= self._moving_from:
                self._moving.observe(batch.indices, outputs)
            constant_loss = self._loss_of_outputs(torch.zeros_like(outputs), batch)
            total += torch.stack([loss.detach(), constant_loss])
        total = cast(Tensor, self._fabric.all_reduce(total, reduce_op="mean"))
        clip_norm = self._settings.train.clip_norm
        norm = self._fabric.clip_gradients(self._wrapped, self._optimizer, max_norm=clip_norm, error_if_nonfinite=False)
        outcome = self._finite.check(total[0], cast(Tensor, norm))
        if outcome == "failed":
            raise self._explained(batches, number)
        self._optimizer.step()  # after an overflow the gradient scaler keeps the weights and lowers its scale
        if outcome == "finite":
            self.progress.steps += 1
            self._schedule.after_step()
            if self._average is not None:
                self._average.update(self.model, step=self.progress.steps)
        return total

    def _loss_of(self, module: nn.Module, batch: Batch) -> Tensor:
        """Mean loss over the batch's cases. `module` is a CaseForward, wrapped or not."""
        return self._loss_of_outputs(self._outputs_of(module, batch), batch)

    def _loss_of_outputs(self, outputs: Tensor, batch: Batch) -> Tensor:
        loss: Tensor = self._loss(outputs, batch.targets.to(self._fabric.device, non_blocking=True))
        return loss

    def _outputs_of(self, module: nn.Module, batch: Batch) -> Tensor:
        """(B, K + U) of the batch's cases."""
        device = self._fabric.device
        lateral = None if batch.lateral is None else batch.lateral.to(device, non_blocking=True)
        images = batch.images.to(device, memory_format=self._memory_format, non_blocking=True)
        try:
            outputs: Tensor = module(images, batch.cases.to(device, non_blocking=True), len(batch.targets), lateral)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(
                "train.batch_size: one image per process is too few for the batch norms of this backbone; give 2 "
                "or more"
            ) from None
        return outputs

    def validate(self, val: Split) -> Metrics:
        """Validation results of `kept_model`. Each process predicts its share of the images, all get all results."""
        if self._fabric.world_size > 1:
            check_same_weights(self.model, when=f"after epoch {self.progress.epoch + 1}")
        share_buffers(self.kept_model)
        fabric = self._fabric
        with fabric.autocast():
            own = predict_logits(
                self.kept_model,
                val.pictures,
                rows=range(fabric.global_rank, len(val.pictures), fabric.world_size),
                num_channels=self._settings.backbone.in_channels,
                progress=fabric.is_global_zero,
            )
        figures = validation_figures(interleaved(gather(own)), val, self._settings)
        self._note = one_line(figures)
        shared: Metrics = fabric.broadcast(figures)  # machines may round differently, but must decide alike
        return shared

    def end_epoch(self, figures: Metrics) -> None:
        """Compare the epoch with the best so far, and save the best weights and the checkpoint.

        Raises:
            UserError: the training has diverged; nothing is saved.
        """
        progress = self.progress
        progress.add_loss(self._relative_loss, learning_rate=self._settings.optimizer.learning_rate)
        if self._moving is not None:
            self._moving.end_epoch()
        progress.epoch += 1
        counts = progress.epoch > self._settings.hierarchy.conditional_epochs
        score = selecting_score(figures, self._settings.train.select_by) if counts else None
        self._schedule.after_epoch(score)
        is_best = score is not None and progress.update(score)
        if self._fabric.is_global_zero:
            if is_best:
                save_weights(self._run_dir / "best.safetensors", self.kept_model)
            save_last(self._last, self._stateful(), progress)
        self._fabric.barrier()

    def _loss_outside(self, module: nn.Module, batch: Batch) -> Tensor:
        """`_loss_of` for a module that Fabric did not wrap, in the same precision."""
        with self._fabric.autocast():
            return self._loss_of(module, batch)

    def _explained(self, batches: Sequence[Batch], step: int) -> UserError:
        """The error for a step that is not finite. Each process examines its own batches."""
        scale = self._scaler.get_scale() if self._scaler is not None else 1.0
        found = explain(
            self.model,
            batches,
            loss_of=lambda batch: self._loss_outside(CaseForward(self.model), batch) * scale,
            image_ids=self._train.image_ids,
        )
        return non_finite_error(gather(found), where=f"epoch {self.progress.epoch + 1}, step {step}")

"""Train the detector on a YOLO folder, or go on where an interrupted training stopped."""

import logging
import shutil
from pathlib import Path
from typing import Any

import albumentations as A
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from ultralytics.utils.torch_utils import strip_optimizer

from cxr.config import UserError
from cxr.hardware import computes_in_bf16
from cxr.tracking import Tracker
from stage3_detect.config import AugmentSettings, DetectSettings
from stage3_detect.trainer import PseudoBoxTrainer, epochs_done

log = logging.getLogger("raybox")


def train_detector(run_dir: Path, data_yaml: Path, settings: DetectSettings) -> Path:
    """Train until done and write `weights/best.pt`, the weights with the best AP on the validation part.

    A training that was interrupted goes on from its last epoch (ultralytics' resume: weights, optimiser, schedule,
    averaging and early stopping; its random state is new); one that is done is not trained again.

    Returns:
        path of the weights: half precision, without optimiser, without paths of this machine.
    """
    best = run_dir / "weights" / "best.pt"
    if best.is_file():
        log.info("stage3: training is done, %s", best.name)
        return best
    work = run_dir / "train"
    last = work / "weights" / "last.pt"
    done = epochs_done(last)
    if done is None and work.exists():
        log.warning("stage3: no whole checkpoint in %s: training from the start", work.name)
        shutil.rmtree(work)
    if done is None or done < settings.train.num_epochs:
        trainer = _make_trainer(work, data_yaml, settings, resume=None if done is None else last)
        with _epoch_progress() as progress:
            # with several GPUs the work is done in other processes, where no bar of ours can be drawn
            if not trainer.ddp:
                _report_to(trainer, progress, Tracker(run_dir, settings.tracking))
            trainer.train()
    chosen = work / "weights" / "best.pt"
    if not chosen.is_file():
        raise UserError(f"run {run_dir}: train/weights/best.pt is gone; remove {work} to train anew")
    publish_weights(chosen, best)
    return best


def ultralytics_arguments(settings: DetectSettings) -> dict[str, Any]:
    """Our settings in ultralytics' names; what is not named here keeps ultralytics' default."""
    train, augment = settings.train, settings.augment
    device = pick_device(settings.device)
    return {
        "task": "detect",
        "model": settings.model,
        "imgsz": settings.data.image_px,
        "epochs": train.num_epochs,
        "patience": train.patience_epochs,
        "batch": train.batch_size,
        "nbs": train.batch_size,  # else ultralytics steps only once in 64 images
        "optimizer": train.optimizer,
        "lr0": train.lr,
        "lrf": train.lr_final_share,
        "cos_lr": train.schedule == "cosine",
        "momentum": train.momentum,
        "weight_decay": train.weight_decay,
        "warmup_epochs": train.warmup_epochs,
        "warmup_bias_lr": 0.0,
        # "bf16" or False: plain mixed precision makes ultralytics fetch a model to test it
        "amp": "bf16" if device != "cpu" and precision_of(settings, device) == "bf16" else False,
        "device": device,
        "workers": settings.num_workers,
        "seed": settings.seed,
        "plots": True,  # the first batches as pictures
        "val": True,
        "conf": settings.predict.min_score,
        "iou": settings.predict.nms_iou,
        "nms": False if settings.predict.nms_free else None,
        **_augment_arguments(augment),
    }


def _augment_arguments(augment: AugmentSettings) -> dict[str, Any]:
    return {
        "fliplr": augment.flip_probability,
        "flipud": 0.0,
        "hsv_h": 0.0,
        "hsv_s": 0.0,
        "hsv_v": 0.0,  # ultralytics applies it to three channels only; contrast below covers one as well
        "degrees": augment.rotate_deg,
        "translate": augment.translate_share,
        "scale": augment.scale_share,
        "mosaic": augment.mosaic_probability,
        "close_mosaic": augment.mosaic_off_last_epochs,
        "augmentations": [
            A.RandomBrightnessContrast(0.2, 0.2, p=augment.contrast_probability),
            A.RandomGamma((80, 120), p=augment.contrast_probability),
        ],
    }


def pick_device(wanted: str) -> str:
    """CUDA, else Apple's GPU, else the CPU where `wanted` is auto."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def precision_of(settings: DetectSettings, device: str) -> str:
    """fp32 or bf16; `auto` takes bf16 only where the hardware computes in it."""
    if settings.train.precision != "auto":
        return settings.train.precision
    kind = device if device in ("cpu", "mps") else "cuda"
    return "bf16" if computes_in_bf16(kind) else "fp32"


def _make_trainer(
    work: Path, data_yaml: Path, settings: DetectSettings, *, resume: Path | None
) -> PseudoBoxTrainer:
    arguments = ultralytics_arguments(settings) | {
        "data": str(data_yaml.resolve()),
        "save_dir": str(work.resolve()),
        "resume": str(resume) if resume is not None else False,
    }
    if resume is not None:
        log.info("stage3: training goes on after epoch %d", epochs_done(resume))
    trainer = PseudoBoxTrainer(overrides=arguments)
    trainer.val_every_epochs = settings.train.val_every_epochs
    trainer.averaging_share = settings.train.averaging_share
    trainer.bf16_on_cpu = precision_of(settings, "cpu") == "bf16"
    return trainer


def _epoch_progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns)
    progress.disable = not progress.console.is_terminal
    return progress


def _report_to(trainer: PseudoBoxTrainer, progress: Progress, tracker: Tracker) -> None:
    """Draw each batch in the progress bar and log each epoch's figures, through ultralytics' callbacks."""
    bar = progress.add_task("training", total=None)

    def start(running: PseudoBoxTrainer) -> None:
        num_batches = len(running.train_loader)
        progress.update(bar, total=running.epochs * num_batches, completed=running.start_epoch * num_batches)

    def advance(_: PseudoBoxTrainer) -> None:
        progress.advance(bar)

    def epoch_end(running: PseudoBoxTrainer) -> None:
        tracker.log(running.epoch + 1, _epoch_figures(running))

    trainer.add_callback("on_train_start", start)
    trainer.add_callback("on_train_batch_end", advance)
    trainer.add_callback("on_fit_epoch_end", epoch_end)


def _epoch_figures(trainer: PseudoBoxTrainer) -> dict[str, float]:
    """Losses of the epoch, and the validation's figures where there was one."""
    figures = {name: float(value) for name, value in trainer.label_loss_items(trainer.tloss).items()}
    if trainer.fitness is not None:
        figures |= {name: float(value) for name, value in trainer.metrics.items()}
    figures["seconds"] = round(float(trainer.epoch_time or 0.0), 2)
    return figures


def publish_weights(trained: Path, published: Path) -> None:
    """Copy a checkpoint without optimiser and without anything about this machine, atomically."""
    published.parent.mkdir(parents=True, exist_ok=True)
    partial = published.with_suffix(".partial")
    strip_optimizer(str(trained), s=str(partial), updates={"git": None, "train_results": None, "date": None})
    checkpoint = torch.load(
        partial, map_location="cpu", weights_only=False
    )  # our own file, written just above
    for arguments in (checkpoint["train_args"], checkpoint["model"].args):
        for name in ("data", "save_dir", "project", "name", "resume", "model"):
            arguments[name] = Path(str(arguments[name])).name if arguments.get(name) else None
    checkpoint["model"].pt_path = published.name
    torch.save(checkpoint, partial)
    partial.replace(published)

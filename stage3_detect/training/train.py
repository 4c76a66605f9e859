"""Train a detector: from labels to training files to weights. An interrupted training resumes."""

import logging
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import albumentations as A
import torch
from ultralytics.utils.torch_utils import strip_optimizer

from cxr.coco import CocoBoxes
from cxr.config import UserError
from cxr.runs.hardware import computes_in_bf16
from cxr.runs.whole_files import whole_file
from stage3_detect.labels.parents import find_parent_shares, with_implied_parents, with_parents_boxes
from stage3_detect.labels.sources import Sources
from stage3_detect.labels.training_set import make_training_set
from stage3_detect.labels.yolo_folder import YoloFolder, write_yolo_folder
from stage3_detect.model.checkpoint import read_checkpoint
from stage3_detect.model.torch_network import pick_device
from stage3_detect.settings.detector import AugmentSettings, Stage3Settings
from stage3_detect.training.divergence import check_divergence
from stage3_detect.training.loss import as_ultralytics_model
from stage3_detect.training.reporting import log_worker_epochs
from stage3_detect.training.trainer import PseudoBoxTrainer, epochs_done

log = logging.getLogger("raybox")


def fit(
    run_dir: Path, sources: Sources, labels: CocoBoxes, settings: Stage3Settings, *, start: Path | None = None
) -> tuple[Path, YoloFolder]:
    """Train a detector on `labels`, and on the true boxes and the corrections of `sources`, if any. Resumes an
    interrupted training.

    Args:
        start: weights to start from, instead of those in the settings.

    Returns:
        `run_dir`/weights/best.pt, and the folder with the training files.
    """
    tune = sources.tune if settings.data.validate_on == "tune_boxes" else None
    corrections = sources.corrections
    if settings.labels.parent_boxes and settings.labels.source == "pseudo_labels":
        parent_shares = find_parent_shares(sources.readers, sources.parents)
        labels = with_parents_boxes(labels, parent_shares, min_score=settings.labels.min_score)
        corrections = None if corrections is None else with_implied_parents(corrections, parent_shares)
    training = make_training_set(labels, sources.true, tune, settings, corrections=corrections)
    folder = write_yolo_folder(run_dir / "yolo", training, settings.data, extras=trainer_extras(settings))
    num_given = sum(len(coco.images) for coco in (sources.true, corrections) if coco is not None)
    num_given += 0 if settings.labels.true_boxes.only else len(labels.images)
    log.info(
        f"stage3: {folder.num_positives} images with boxes, {folder.num_normals} normal (labels.normals_per_positive), "
        f"{folder.num_uncertain} with ignore regions only ({folder.num_left_out} more are not used), "
        f"{folder.num_held_out} for validation, of {num_given}; {folder.num_boxes} boxes, {folder.num_regions} regions"
    )
    return train_detector(run_dir, folder.data_yaml, settings, start=start), folder


def train_detector(run_dir: Path, data_yaml: Path, settings: Stage3Settings, *, start: Path | None = None) -> Path:
    """Train and write `weights/best.pt`, the weights with the best AP on the validation images.

    An interrupted training resumes from its last epoch and equals an undisturbed one (see `exact_resume`). A finished
    one is not repeated. Metrics of each epoch go to `metrics.jsonl` and to the log.

    Args:
        run_dir: gets `train`, ultralytics' own folder, and `weights`.
        data_yaml: of a folder that `write_yolo_folder` wrote with `trainer_extras`.
        start: weights to start from, instead of those in the settings.

    Returns:
        path of the weights: half precision, without optimiser and local paths, of ultralytics' class.

    Raises:
        UserError: this machine does not have the device, the batch cannot be divided among the GPUs, or the training
            diverges.
    """
    best = run_dir / "weights" / "best.pt"
    if epochs_done(best) is not None:
        log.info("stage3: the training is finished: %s", best.name)
        return best
    work = run_dir / "train"
    last = work / "weights" / "last.pt"
    done = epochs_done(last)
    if done is None and work.exists():
        log.warning("stage3: no complete checkpoint in %s; training starts from the beginning", work.name)
        shutil.rmtree(work)
    if done is None or done < settings.train.num_epochs:
        begin = str(start) if start is not None else settings.model
        trainer = _make_trainer(work, data_yaml, settings, begin=begin, resume=None if done is None else last)
        # on several GPUs other processes train, and nothing shows their log
        with log_worker_epochs(run_dir, settings.train.num_epochs) if trainer.ddp else nullcontext():
            _train(trainer, run_dir)
    chosen = work / "weights" / "best.pt"
    if not chosen.is_file():
        raise UserError(f"run {run_dir}: train/weights/best.pt is missing; remove {work} to train again")
    publish_weights(chosen, best)
    return best


def _train(trainer: PseudoBoxTrainer, run_dir: Path) -> None:
    """UserError if the training diverges, or if its loss stays NaN or infinite although ultralytics went back to the
    last good epoch three times."""
    try:
        trainer.train()
    except RuntimeError as error:
        if "NaN" not in str(error):
            raise
        raise UserError(
            f"run {run_dir}: the training's loss is not finite ({error}); train/weights holds the last good epoch; "
            "train again with another --out and a lower train.learning_rate or with train.precision=fp32"
        ) from None
    last, best = (epochs_done(run_dir / "train" / "weights" / name) for name in ("last.pt", "best.pt"))
    check_divergence(run_dir, trainer.args, num_saved=last, best_epoch=best)


def ultralytics_arguments(settings: Stage3Settings) -> dict[str, Any]:
    """Our settings under ultralytics' names; all other arguments keep their defaults."""
    train, device = settings.train, pick_device(settings.device)
    if train.batch_size % (num_devices := len(device.split(","))):
        raise UserError(
            f"train.batch_size: {train.batch_size} images cannot be divided among {num_devices} GPUs; give a multiple "
            f"of {num_devices}"
        )
    return {
        "task": "detect",
        "model": settings.model,
        "imgsz": settings.data.image_px,
        "epochs": train.num_epochs,
        "patience": train.patience_epochs,
        "batch": train.batch_size,
        "nbs": train.batch_size,  # else ultralytics makes one step per 64 images
        "optimizer": {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD", "musgd": "MuSGD"}[train.optimizer],
        "lr0": train.learning_rate,
        "lrf": train.final_learning_rate_share,
        "cos_lr": train.schedule == "cosine",
        "momentum": train.momentum,
        "weight_decay": train.weight_decay,
        "warmup_epochs": train.warmup_epochs,
        "warmup_bias_lr": 0.0,
        # "bf16" or False: with plain mixed precision ultralytics downloads a model to test it
        "amp": "bf16" if device != "cpu" and precision_of(settings, device) == "bf16" else False,
        "device": device,
        "workers": settings.num_workers,
        "seed": settings.seed,
        "plots": True,  # pictures of the first batches
        "val": True,
        "conf": settings.predict.min_score,
        "iou": settings.predict.nms_iou,
        "nms": False if settings.predict.nms_free else None,
        "cls_pw": settings.noise.class_balance_power,
        **_augment_arguments(settings.augment),
    }


def trainer_extras(settings: Stage3Settings) -> dict[str, Any]:
    """Settings of our trainer that ultralytics has no argument for."""
    return {
        "val_every_epochs": settings.train.val_every_epochs,
        "ema_share": settings.train.ema_share,
        "bf16_on_cpu": precision_of(settings, "cpu") == "bf16",
        "shared_boxes_iou": settings.noise.shared_boxes_iou,
        "tracking": settings.tracking,
        "backbone_learning_rate_share": settings.backbone.learning_rate_share,
        "backbone_frozen_stride": settings.backbone.frozen_stride,
    }


def _augment_arguments(augment: AugmentSettings) -> dict[str, Any]:
    return {
        "fliplr": augment.flip_probability,
        # ultralytics applies hsv_v to three channels only; the contrast below also works on one
        **dict.fromkeys(("flipud", "hsv_h", "hsv_s", "hsv_v"), 0.0),
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


def precision_of(settings: Stage3Settings, device: str) -> str:
    """fp32 or bf16; `auto` is bf16 only if the hardware computes in it."""
    if settings.train.precision != "auto":
        return settings.train.precision
    kind = device if device in ("cpu", "mps") else "cuda"
    return "bf16" if computes_in_bf16(kind) else "fp32"


def _make_trainer(
    work: Path, data_yaml: Path, settings: Stage3Settings, *, begin: str, resume: Path | None
) -> PseudoBoxTrainer:
    arguments = ultralytics_arguments(settings) | {
        "model": begin,
        "data": str(data_yaml.resolve()),
        "save_dir": str(work.resolve()),
        "resume": str(resume) if resume is not None else False,
    }
    if resume is not None:
        log.info("stage3: the training resumes after epoch %d", epochs_done(resume))
    return PseudoBoxTrainer(overrides=arguments)


def publish_weights(trained: Path, published: Path) -> None:
    """Copy a checkpoint without its optimiser and anything about this machine, atomically."""
    published.parent.mkdir(parents=True, exist_ok=True)
    # first read so that no code of it runs; strip_optimizer would run it
    read_checkpoint(trained, what="run", advice=f"remove {trained.parents[1]} to train again")
    with whole_file(published) as partial:
        shutil.copyfile(trained, partial)  # fails on a full disk with a reason; strip_optimizer, which writes less, not
        checkpoint = strip_optimizer(str(partial), updates={"git": None, "train_results": None, "date": None})
        for arguments in (checkpoint["train_args"], checkpoint["model"].args):
            for name in ("data", "save_dir", "project", "name", "resume", "model"):
                arguments[name] = Path(str(arguments[name])).name if arguments.get(name) else None
        checkpoint["model"] = as_ultralytics_model(checkpoint["model"])
        checkpoint["model"].pt_path = published.name
        with partial.open("wb") as file:
            torch.save(checkpoint, file)

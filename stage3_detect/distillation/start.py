"""The weights that a training starts from after distillation: made once per run, and resumed after an interruption."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ultralytics.nn.tasks import DetectionModel

from cxr.coco import CocoBoxes
from cxr.config import UserError
from cxr.metrics import Metrics
from cxr.runs.torch_files import save_torch
from stage1_classify.model.loading import first_member
from stage3_detect.distillation.learning import CHECKPOINT, Distillation, DistillationData, Indices, learn, shares_text
from stage3_detect.distillation.pictures import frame_of, open_pictures
from stage3_detect.distillation.student import Student, find_taps
from stage3_detect.distillation.teacher import Teacher
from stage3_detect.labels.sources import in_fixed_order
from stage3_detect.labels.training_set import held_out
from stage3_detect.model.checkpoint import read_checkpoint
from stage3_detect.model.torch_network import first_device, pick_device
from stage3_detect.settings.detector import Stage3Settings
from stage3_detect.training.starting_point import make_network
from stage3_detect.training.train import precision_of

_EXPLAINED = "explained"
"""Key of the weights file for the figures."""

_PICTURES = "pictures"
"""Folder of the decoded pictures, in the folder of the distillation."""

_NUM_SAMPLE = 512
"""Training images on which the features' mean and standard deviation are measured."""

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class DistilledStart:
    """weights: the file to start from. explained: share of the variance of the classifier's features that the detector
    explains on held-out images, by layer; None without held-out images."""

    weights: Path
    explained: Metrics

    @property
    def metrics(self) -> Metrics:
        """Metrics ``distillation/r2/<layer>``."""
        return {f"distillation/r2/{name}": value for name, value in self.explained.items()}


def distilled_start(run_dir: Path, images: CocoBoxes, settings: Stage3Settings, *, stage1: Path) -> DistilledStart:
    """Write `run_dir`/weights/distilled.pt, or return it where it is finished. An interrupted call continues after its
    last whole epoch.

    Args:
        images: all that may be trained on, with or without boxes.
        stage1: run folder of the classifier. Of an ensemble, the first network is the teacher.

    Raises:
        UserError: there are no images, one of them or the classifier cannot be read, or the loss is not a number.
    """
    weights, folder = run_dir / "weights" / "distilled.pt", run_dir / "distillation"
    explained = _finished(weights)
    if explained is None:
        folder.mkdir(parents=True, exist_ok=True)
        job = _make_job(folder, images, settings, stage1)
        explained = learn(job, folder)
        _publish(weights, job.student.model, explained)
        _report(explained, len(job.data.held_out))
    else:
        log.info("stage3: the distillation is finished: %s", weights.name)
    shutil.rmtree(folder / _PICTURES, ignore_errors=True)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return DistilledStart(weights, explained)


def _make_job(folder: Path, images: CocoBoxes, settings: Stage3Settings, stage1: Path) -> Distillation:
    own, device_name = settings.distillation, pick_device(settings.device)
    device = first_device(device_name)
    frame_hw = frame_of(images, own.image_px or settings.data.image_px)
    pictures, rows = open_pictures(folder / _PICTURES, images, frame_hw, on_problem=settings.data.on_problem)
    train, held = _parts(images, rows, settings)
    torch.manual_seed(settings.seed)
    network = make_network(settings, images.findings)
    taps = find_taps(network, own.layers)
    teacher = Teacher(first_member(stage1), frame_hw, [tap.stride for tap in taps], device)
    data = DistillationData(pictures, train, held, device, own.batch_size)
    num_targets = teacher.standardise_by(data.batches(train[:_NUM_SAMPLE]))
    log.info(
        f"stage3: distillation: {len(train)} images of {frame_hw[0]} x {frame_hw[1]} pixels, {len(held)} held out; "
        f"layers {', '.join(str(tap.layer) for tap in taps)} learn {', '.join(map(str, num_targets))} features of "
        f"{teacher.name}"
    )
    student = Student(network, taps, num_targets).to(device)
    return Distillation(student, teacher, data, settings, precision_of(settings, device_name))


def _parts(images: CocoBoxes, rows: Sequence[int], settings: Stage3Settings) -> tuple[Indices, Indices]:
    """Those of these rows to learn from, in a fixed random order, and those of the patients held out."""
    ids = images.images["image_id"]
    row_of = {str(ids[row]): row for row in rows}
    held = held_out(images, list(row_of), settings.data.holdout_share, settings.seed)
    ordered = in_fixed_order(row_of, seed=settings.seed)
    train, others = ([row_of[name] for name in ordered if (name in held) == is_held] for is_held in (False, True))
    return np.array(train, dtype=np.int64), np.array(others, dtype=np.int64)


def _publish(weights: Path, network: DetectionModel, explained: Metrics) -> None:
    """Write the network as a file of ultralytics, atomically, without the projections."""
    weights.parent.mkdir(parents=True, exist_ok=True)
    network.pt_path = weights.name  # else the path of the file that it started from
    save_torch(weights, {"model": network.cpu().eval(), "train_args": {}, "epoch": -1, _EXPLAINED: explained})


def _finished(weights: Path) -> Metrics | None:
    """What a finished file says of itself; None if there is none."""
    if not weights.is_file():
        return None
    try:
        return dict(read_checkpoint(weights, what="distillation", advice="it is made again")[_EXPLAINED])
    except UserError as error:
        log.warning("stage3: %s", "; ".join(error.problems))
        return None


def _report(explained: Metrics, num_images: int) -> None:
    """One line on how well the detector predicts the classifier's features."""
    if not num_images:
        log.warning("stage3: distillation: all images are of one patient, so none was held out to measure it")
        return
    log.info("stage3: distillation: R2 on %d held-out images: %s", num_images, shares_text(explained))
    failed = [name for name, share in explained.items() if share is not None and share <= 0]
    if failed:
        log.warning(
            "stage3: distillation did not learn: %s explain nothing of the classifier's features; give it more "
            "epochs or change distillation.learning_rate",
            ", ".join(failed),
        )

"""The weights that a training starts from after distillation: made once per run, and resumed after an interruption."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from ultralytics.nn.tasks import DetectionModel

from cxr.coco import CocoBoxes
from cxr.config import UserError
from stage3_detect.distillation.learning import CHECKPOINT, Figures, Indices, Learning, Material, learn, shares_text
from stage3_detect.distillation.pictures import PICTURES, frame_of, write_pictures
from stage3_detect.distillation.student import Student, find_taps
from stage3_detect.distillation.teacher import Teacher, load_member
from stage3_detect.labels.sources import in_fixed_order
from stage3_detect.labels.training_set import held_out
from stage3_detect.model.checkpoint import read_checkpoint
from stage3_detect.model.torch_network import first_device, pick_device
from stage3_detect.settings.detector import DetectSettings
from stage3_detect.training.starting_point import make_network
from stage3_detect.training.train import precision_of

_EXPLAINED = "explained"
"""Key of the weights file for the figures."""

_NUM_SAMPLE = 512
"""Training images on which the features' mean and standard deviation are measured."""

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class DistilledStart:
    """weights: the file to start from. explained: share of the variance of the classifier's features that the detector
    explains on held-out images, by layer."""

    weights: Path
    explained: Figures

    @property
    def metrics(self) -> Figures:
        """Metrics ``distillation/<layer>/r2``."""
        return {f"distillation/{name}/r2": value for name, value in self.explained.items()}


def distilled_start(run_dir: Path, images: CocoBoxes, settings: DetectSettings, *, stage1: Path) -> DistilledStart:
    """Write `run_dir`/weights/distilled.pt, or return it where it is finished.

    Args:
        images: all that may be trained on, with or without boxes.
        stage1: run folder of the classifier. Of an ensemble, the first network is the teacher.

    Raises:
        UserError: an image or the classifier cannot be read, or the loss is no longer a number.
    """
    weights, folder = run_dir / "weights" / "distilled.pt", run_dir / "distillation"
    explained = _finished(weights)
    if explained is not None:
        log.info("stage3: the distillation is finished: %s", weights.name)
        return DistilledStart(weights, explained)
    folder.mkdir(parents=True, exist_ok=True)
    job = _make_job(folder, images, settings, stage1)
    explained = learn(job, folder)
    _publish(weights, job.student.model, explained)
    for path in (folder / PICTURES, folder / CHECKPOINT):
        path.unlink()
    _report(explained, len(job.material.held_out))
    return DistilledStart(weights, explained)


def _make_job(folder: Path, images: CocoBoxes, settings: DetectSettings, stage1: Path) -> Learning:
    own, device_name = settings.distillation, pick_device(settings.device)
    device = first_device(device_name)
    frame_hw = frame_of(images, own.image_px or settings.data.image_px)
    pictures, is_good = write_pictures(folder / PICTURES, images, frame_hw, on_problem=settings.data.on_problem)
    train, held = _parts(images, is_good, settings)
    torch.manual_seed(settings.seed)
    network = make_network(settings, images.findings)
    taps = find_taps(network, own.layers)
    teacher = Teacher(load_member(stage1), frame_hw, [tap.stride for tap in taps], device)
    material = Material(pictures, train, held, device, own.batch_size)
    num_targets = teacher.standardise_by(material.batches(train[:_NUM_SAMPLE]))
    log.info(
        f"stage3: distillation: {len(train)} images of {frame_hw[0]} x {frame_hw[1]} pixels, {len(held)} held out; "
        f"layers {', '.join(str(tap.layer) for tap in taps)} learn {', '.join(map(str, num_targets))} features of "
        f"{teacher.name}"
    )
    student = Student(network, taps, num_targets).to(device)
    return Learning(student, teacher, material, settings, precision_of(settings, device_name))


def _parts(images: CocoBoxes, is_good: npt.NDArray[np.bool_], settings: DetectSettings) -> tuple[Indices, Indices]:
    """Row numbers of the images to learn from, in a fixed random order, and of the patients held out."""
    ids = images.images["image_id"].to_numpy()
    row_of = {image_id: row for row, image_id in enumerate(ids)}
    good = ids[is_good].tolist()
    held = held_out(images, good, settings.data.holdout_share, settings.seed)
    ordered = in_fixed_order(good, seed=settings.seed)
    train, others = ([row_of[name] for name in ordered if (name in held) == is_held] for is_held in (False, True))
    return np.array(train, dtype=np.int64), np.array(others, dtype=np.int64)


def _publish(weights: Path, network: DetectionModel, explained: Figures) -> None:
    """Write the network as a file of ultralytics, atomically, without the projections."""
    weights.parent.mkdir(parents=True, exist_ok=True)
    partial = weights.with_suffix(".partial")
    checkpoint = {"model": network.cpu().eval(), "train_args": {}, "epoch": -1, _EXPLAINED: explained}
    torch.save(checkpoint, partial)
    partial.replace(weights)


def _finished(weights: Path) -> Figures | None:
    """What a finished file says of itself; None if there is none."""
    if not weights.is_file():
        return None
    try:
        return dict(read_checkpoint(weights, what="distillation", advice="it is made again")[_EXPLAINED])
    except UserError as error:
        log.warning("stage3: %s", "; ".join(error.problems))
        return None


def _report(explained: Figures, num_images: int) -> None:
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

"""Labels to weights: the files, then the training."""

import logging
from pathlib import Path
from typing import Any

from cxr.coco import CocoBoxes
from stage3_detect.labels.parents import find_kinship, with_parents_boxes
from stage3_detect.labels.sources import Sources
from stage3_detect.labels.training_set import make_training_set
from stage3_detect.labels.yolo_folder import YoloFolder, write_yolo_folder
from stage3_detect.settings.detector import DetectSettings
from stage3_detect.training.train import precision_of, train_detector

log = logging.getLogger("raybox")


def learn(
    run_dir: Path,
    sources: Sources,
    labels: CocoBoxes,
    settings: DetectSettings,
    *,
    start: Path | None = None,
) -> tuple[Path, YoloFolder]:
    """Train a detector on `labels`, and on the true boxes of `sources` where it has any; goes on after a kill.

    Args:
        start: weights to begin with, instead of those of the settings.

    Returns:
        `run_dir`/weights/best.pt, and what it was trained on.
    """
    tune = sources.tune if settings.data.validate_on == "tune_boxes" else None
    if settings.labels.parents_boxes and settings.labels.source == "pseudo":
        kinship = find_kinship(sources.readers)
        labels = with_parents_boxes(labels, kinship, min_score=settings.labels.min_pseudo_score)
    training = make_training_set(labels, sources.true, tune, settings)
    folder = write_yolo_folder(run_dir / "yolo", training, settings.data, extras=trainer_extras(settings))
    log.info(
        "stage3: %d images with boxes, %d normals (as labels.normals_per_positive asks), %d with doubts only "
        "(%d left out), %d held out to validate on, of %d; %d boxes, %d regions",
        folder.num_positives,
        folder.num_normals,
        folder.num_doubtful,
        folder.num_left_out,
        folder.num_held_out,
        _num_given(sources, labels, settings),
        folder.num_boxes,
        folder.num_regions,
    )
    return train_detector(run_dir, folder.data_yaml, settings, start=start), folder


def _num_given(sources: Sources, labels: CocoBoxes, settings: DetectSettings) -> int:
    """Images that there are to choose from: those of the labels, of the true boxes, or of both."""
    num_true = 0 if sources.true is None else len(sources.true.images)
    return num_true if settings.labels.true_boxes.alone else len(labels.images) + num_true


def trainer_extras(settings: DetectSettings) -> dict[str, Any]:
    """What our trainer needs and ultralytics' arguments have no place for."""
    return {
        "val_every_epochs": settings.train.val_every_epochs,
        "averaging_share": settings.train.averaging_share,
        "bf16_on_cpu": precision_of(settings, "cpu") == "bf16",
        "shared_boxes_iou": settings.noise.shared_boxes_iou,
        "tracking": settings.tracking,
    }

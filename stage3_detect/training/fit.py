"""From labels to weights: write the training files, then train."""

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


def fit(
    run_dir: Path,
    sources: Sources,
    labels: CocoBoxes,
    settings: DetectSettings,
    *,
    start: Path | None = None,
) -> tuple[Path, YoloFolder]:
    """Train a detector on `labels` and on the true boxes of `sources`, if any; resumes an interrupted training.

    Args:
        start: weights to start from, instead of those in the settings.

    Returns:
        `run_dir`/weights/best.pt, and the folder with the training files.
    """
    tune = sources.tune if settings.data.validate_on == "tune_boxes" else None
    if settings.labels.parent_boxes and settings.labels.source == "pseudo_labels":
        kinship = find_kinship(sources.readers)
        labels = with_parents_boxes(labels, kinship, min_score=settings.labels.min_score)
    training = make_training_set(labels, sources.true, tune, settings)
    folder = write_yolo_folder(run_dir / "yolo", training, settings.data, extras=trainer_extras(settings))
    log.info(
        "stage3: %d images with boxes, %d normal (labels.normals_per_positive), %d with ignore regions only "
        "(%d more are not used), %d for validation, of %d; %d boxes, %d ignore regions",
        folder.num_positives,
        folder.num_normals,
        folder.num_uncertain,
        folder.num_left_out,
        folder.num_held_out,
        _num_given(sources, labels, settings),
        folder.num_boxes,
        folder.num_regions,
    )
    return train_detector(run_dir, folder.data_yaml, settings, start=start), folder


def _num_given(sources: Sources, labels: CocoBoxes, settings: DetectSettings) -> int:
    """Number of available images: with labels, with true boxes, or both."""
    num_true = 0 if sources.true is None else len(sources.true.images)
    return num_true if settings.labels.true_boxes.only else len(labels.images) + num_true


def trainer_extras(settings: DetectSettings) -> dict[str, Any]:
    """Settings of our trainer that ultralytics has no argument for."""
    return {
        "val_every_epochs": settings.train.val_every_epochs,
        "ema_share": settings.train.ema_share,
        "bf16_on_cpu": precision_of(settings, "cpu") == "bf16",
        "shared_boxes_iou": settings.noise.shared_boxes_iou,
        "tracking": settings.tracking,
    }

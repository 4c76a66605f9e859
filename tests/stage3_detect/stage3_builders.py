"""Tiny stage-2-like runs with pictures, for the tests of stage 3. Never square."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.coco import IMAGE_FIELDS, CocoBoxes, boxes_table, write_coco
from cxr.config import Settings
from cxr.imaging.files import write_png8
from cxr.runs.run_folder import start_run
from stage3_detect.labels.training_set import make_training_set
from stage3_detect.labels.yolo_folder import YoloFolder, write_yolo_folder
from stage3_detect.settings.detector import Stage3Settings
from stage3_detect.training.train import trainer_extras, ultralytics_arguments
from stage3_detect.training.trainer import PseudoBoxTrainer

FINDINGS = ("Nodule/Mass", "Pleural Effusion")
IMAGE_HW = (90, 130)


class Stage2Settings(Settings):
    """Settings of the imitation."""

    seed: int = 0


def draw_image(rng: np.random.Generator, *, num_boxes: int) -> tuple[np.ndarray, list[tuple[object, ...]]]:
    """(90, 130) in [0, 1] with bright discs (nodules) and dark blocks (effusions), and their true boxes."""
    height, width = IMAGE_HW
    image = 0.45 + 0.05 * rng.standard_normal(IMAGE_HW)
    boxes: list[tuple[object, ...]] = []
    rows, columns = np.mgrid[:height, :width]
    for _ in range(num_boxes):
        half = int(rng.integers(8, 16))
        x, y = int(rng.integers(half, width - half)), int(rng.integers(half, height - half))
        kind = int(rng.integers(2))
        inside = (rows - y) ** 2 + (columns - x) ** 2 < half**2
        if kind == 1:
            inside = (abs(rows - y) < half) & (abs(columns - x) < half)
        image[inside] += 0.4 if kind == 0 else -0.4
        boxes.append((FINDINGS[kind], x - half, y - half, x + half, y + half))
    return np.clip(image, 0, 1).astype(np.float32), boxes


def make_coco(root: Path, split: str, *, num_images: int, seed: int, score: float = float("nan")) -> CocoBoxes:
    """Write pictures below `root`/`split`; every third has no box."""
    rng = np.random.default_rng(seed)
    (root / split).mkdir(parents=True, exist_ok=True)
    images, rows = [], []
    for index in range(num_images):
        image_id = f"{split}_{index:03d}"
        picture, boxes = draw_image(rng, num_boxes=0 if index % 3 == 2 else 1 + index % 2)
        write_png8(root / split / f"{image_id}.png", picture)
        images.append((image_id, f"{split}/{image_id}.png", "full", IMAGE_HW[1], IMAGE_HW[0]))
        rows += [(image_id, *box, score) for box in boxes]
    info = {"data_root": str(root), "dataset": "discs", "split": split, "synthetic": True}
    return CocoBoxes(pd.DataFrame(images, columns=IMAGE_FIELDS), boxes_table(rows), FINDINGS, info)


def make_stage2_run(
    folder: Path, *, num_train: int = 24, num_test: int = 9, inputs: Mapping[str, Path] | None = None
) -> Path:
    """A finished run folder with what stage 3 reads; returns its path."""
    data, out = folder / "data", folder / "stage2"
    run = start_run(out, stage="stage2", settings=Stage2Settings(), inputs=inputs or {})
    test = make_coco(data, "test", num_images=num_test, seed=2)
    truth = test.boxes
    shifted = truth.assign(x1=truth["x1"] + 3, x2=truth["x2"] + 3, score=0.9)
    centre = boxes_table([(i, f, 40, 30, 90, 60, 0.1) for i in test.images["image_id"] for f in FINDINGS])
    tables = {
        "pseudo_labels": make_coco(data, "train", num_images=num_train, seed=1, score=0.8),
        "gt_tune": make_coco(data, "tune", num_images=6, seed=3),
        "gt_test": test,
        "detections_pcam": test.with_boxes(shifted),
        "detections_prior_mean_box": test.with_boxes(centre),
        "detections_prior_center_box": test.with_boxes(centre),
    }
    for name, coco in tables.items():
        write_coco(out / "coco" / f"{name}.json", coco)
    outputs = {name: out / "coco" / f"{name}.json" for name in tables}
    run.finish({"ms_per_image/pcam": 50.0}, outputs, best_method="pcam", findings=list(FINDINGS), splits={})
    return out


def tiny_settings(**changes: Any) -> Stage3Settings:
    """Two epochs on small grey pictures; `train` and `data` are added to."""
    train = {"num_epochs": 2, "batch_size": 4, "precision": "fp32", **changes.pop("train", {})}
    data = {"image_px": 96, "validate_on": "tune_boxes", **changes.pop("data", {})}
    given = {"device": "cpu", "num_workers": 0, "data": data, "train": train, **changes}
    return Stage3Settings.model_validate(given)


def yolo_folder_of(root: Path, settings: Stage3Settings, pseudo: CocoBoxes | None = None) -> YoloFolder:
    """The folder that a training reads, of nine pictures where none are given; three to validate on."""
    labels = pseudo or make_coco(root, "train", num_images=9, seed=0, score=0.8)
    tune = make_coco(root, "tune", num_images=3, seed=3)
    training = make_training_set(labels, None, tune, settings)
    return write_yolo_folder(root / "yolo", training, settings.data, extras=trainer_extras(settings))


def trainer_of(root: Path, pseudo: CocoBoxes | None = None, **changes: Any) -> PseudoBoxTrainer:
    """A trainer with files of its own that has not begun."""
    settings = tiny_settings(**changes)
    folder = yolo_folder_of(root, settings, pseudo)
    paths = {"data": str(folder.data_yaml), "save_dir": str(root / "run" / "train")}
    return PseudoBoxTrainer(overrides=ultralytics_arguments(settings) | paths)

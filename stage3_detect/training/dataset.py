"""Training images for ultralytics with boxes, weights and regions; the doubts travel beside the classes through every
augmentation, so that a picture that is turned, moved or put into a mosaic takes its regions along."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.data.augment import Format
from ultralytics.data.dataset import YOLODataset

from stage3_detect.labels.target_files import read_targets, targets_path

DOUBTS = "doubts"
"""Key of a batch: (n, 2) float, a row for each of `cls` and `bboxes`; its columns are the next two."""
WEIGHT, IS_REGION = 0, 1


class DoubtfulFormat(Format):
    """Ultralytics' last step; splits (n, 3) columns of class, weight and region into `cls` and `DOUBTS`."""

    def apply_instances(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """As ultralytics'."""
        labels = super().apply_instances(labels, params)
        told = labels["cls"].float()  # (0, 1) where ultralytics found nothing
        if len(labels["bboxes"]) == 0:
            told = torch.zeros(0, 3)
        labels["cls"], labels[DOUBTS] = told[:, :1], told[:, 1:]
        return labels


class DoubtfulDataset(YOLODataset):
    """Ultralytics' data set over our target files; an image that the list names twice is shown twice an epoch."""

    format_class = DoubtfulFormat

    def get_labels(self) -> list[dict[str, Any]]:
        """One entry an image; `cls` holds class, weight and region, which ultralytics carries along unread."""
        told = {name: self._label(name) for name in dict.fromkeys(self.im_files)}
        return [dict(told[name]) for name in self.im_files]

    def _label(self, picture: str) -> dict[str, Any]:
        targets = read_targets(targets_path(Path(picture)))
        return {
            "im_file": picture,
            "shape": (self.imgsz, self.imgsz),
            "cls": targets[:, [0, 5, 6]].astype(np.float32),
            "bboxes": targets[:, 1:5].astype(np.float32),
            "segments": [],
            "keypoints": None,
            "normalized": True,
            "bbox_format": "xywh",
        }

    @staticmethod
    def collate_fn(batch: list[dict[str, Any]]) -> dict[str, Any]:
        """As ultralytics', with the doubts of all images one under another."""
        collated: dict[str, Any] = YOLODataset.collate_fn(batch)
        collated[DOUBTS] = torch.cat(list(collated[DOUBTS]), 0)
        return collated

"""Ultralytics' data set with box weights and ignore regions.

Weight and region flag are extra columns of the class array, so ultralytics' augmentations (rotation, shift, mosaic)
carry them along.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.data.augment import Format
from ultralytics.data.dataset import YOLODataset

from cxr.imaging.dead_workers import ReadingNow
from stage3_detect.labels.picture_files import read_targets, targets_path

LABEL_NOISE = "label_noise"
"""Key of a batch: (n, 2) float, one row per row of `cls` and `bboxes`, with the columns WEIGHT and IS_REGION."""
WEIGHT, IS_REGION = 0, 1


class NoisyLabelFormat(Format):
    """Ultralytics' last transform; splits the columns class, weight and region into `cls` and `LABEL_NOISE`."""

    def apply_instances(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """As in ultralytics."""
        labels = super().apply_instances(labels, params)
        # without a box, ultralytics gives (0, 1)
        columns = labels["cls"].float() if len(labels["bboxes"]) else torch.zeros(0, 3)
        labels["cls"], labels[LABEL_NOISE] = columns[:, :1], columns[:, 1:]
        return labels


class NoisyLabelDataset(YOLODataset):
    """Reads our target files; an image that the list names twice is shown twice per epoch."""

    format_class = NoisyLabelFormat

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Arguments as in ultralytics."""
        self._reads = ReadingNow()
        super().__init__(*args, **kwargs)

    def load_image(self, i: int, *args: Any, **kwargs: Any) -> Any:
        """As in ultralytics; a worker notes what it reads."""
        with self._reads.reading(i):
            return super().load_image(i, *args, **kwargs)

    def deaths_named(self) -> AbstractContextManager[None]:
        """Around an error of the training. UserError naming the image that a dead worker was reading."""
        return self._reads.deaths_named([Path(name).stem for name in self.im_files], setting="num_workers")

    def get_labels(self) -> list[dict[str, Any]]:
        """One entry per image; `cls` has the columns class, weight and region."""
        entries = {name: self._label(name) for name in dict.fromkeys(self.im_files)}
        return [dict(entries[name]) for name in self.im_files]

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
        """As in ultralytics; the label noise of all images is concatenated."""
        collated: dict[str, Any] = YOLODataset.collate_fn(batch)
        collated[LABEL_NOISE] = torch.cat(list(collated[LABEL_NOISE]), 0)
        return collated

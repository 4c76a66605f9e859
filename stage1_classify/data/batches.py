"""Training data: augmented images and targets, collated to batches."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from cxr.arrays import Float32s
from cxr.config import UserError
from cxr.imaging.dead_workers import ReadingNow
from cxr.imaging.pictures import Pictures
from stage1_classify.data.augment import Augmentation, picture_seed
from stage1_classify.data.studies import Cases


@dataclass(frozen=True)
class Split:
    """A part of the data: its images, its cases, and the targets of the cases (cases, K), NaN where masked."""

    pictures: Pictures
    cases: Cases
    targets: Float32s

    @property
    def sets(self) -> list[str]:
        """(cases,) the data set of each case, "" in a run of one data set."""
        names: list[str] = self.cases.first.images["set"].tolist()
        return names

    def image_ids(self, batch: "Batch") -> list[str]:
        """Names of the batch's images, in their order."""
        return [self.pictures.image_ids[row] for case in batch.indices.tolist() for row in self.cases.views[case]]


class Item(NamedTuple):
    """One case: its views (V, C, H, W), its targets (K,), its index in the split, which views are lateral (V,)."""

    images: Tensor
    targets: Tensor
    case: int
    lateral: Tensor


class Batch(NamedTuple):
    """B cases with N views in total, without padding.

    images: (N, C, H, W) float32. cases: (N,) int64 in 0..B-1, ascending: the case of each image. targets: (B, K).
    indices: (B,) int64: the cases' indices in the split. lateral: (N,) bool: the images that are lateral views; None:
    none of them.
    """

    images: Tensor
    cases: Tensor
    targets: Tensor
    indices: Tensor
    lateral: Tensor | None = None


class TrainingSet(TorchDataset[Item]):
    """The cases of a split, augmented. The augmentation depends on (seed, epoch, image) only."""

    def __init__(self, split: Split, augmentation: Augmentation, *, num_channels: int, seed: int) -> None:
        assert len(split.cases) == len(split.targets)
        self._pictures, self._views = split.pictures, split.cases.views
        self._targets = torch.from_numpy(split.targets)
        self._augmentation = augmentation
        self._num_channels = num_channels
        self._seed = seed
        self._reads = ReadingNow()
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, index: int) -> Item:
        rows = self._views[index]
        images = torch.stack([self._augmented(row) for row in rows])
        return Item(images, self._targets[index], index, self._pictures.are_lateral(rows))

    def _augmented(self, row: int) -> Tensor:
        with self._reads.reading(row):
            seed = picture_seed(self._seed, self.epoch, row)
            picture = self._augmentation(self._pictures[row], seed=seed)
            return self._pictures.to_input(picture, self._num_channels)

    def deaths_named(self) -> AbstractContextManager[None]:
        """Around the use of a loader with workers. UserError naming the image that a dead worker was reading."""
        return self._reads.deaths_named(self._pictures.image_ids, setting="train.num_workers")


def collate(items: Sequence[Item]) -> Batch:
    """A batch of cases. Each case may have any number of views."""
    num_views = torch.tensor([len(item.images) for item in items])
    return Batch(
        images=torch.cat([item.images for item in items]),
        cases=torch.repeat_interleave(torch.arange(len(items)), num_views),
        targets=torch.stack([item.targets for item in items]),
        indices=torch.tensor([item.case for item in items]),
        lateral=torch.cat([item.lateral for item in items]),
    )


def training_loader(items: TrainingSet, batches: Iterable[list[int]], *, num_workers: int) -> DataLoader[Batch]:
    """Loader of these batches of cases. Its workers are started for each epoch, so that they see the epoch number."""
    return DataLoader(
        items,  # type: ignore[arg-type]
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=collate,
        worker_init_fn=_one_opencv_thread,
        pin_memory=torch.cuda.is_available(),
    )


def _one_opencv_thread(_: int) -> None:
    """Workers share the cores already, and OpenCV's threads do not survive a fork."""
    cv2.setNumThreads(0)


def check_no_empty_finding(labels: pd.DataFrame, *, split: str) -> None:
    """Raise a UserError if a finding has no positive in the training labels, so that it could not be learned."""
    empty = [str(name) for name in labels.columns if not (labels[name] == 1).any()]
    if empty:
        raise UserError(
            f"findings: no positives of {', '.join(empty)} among {len(labels)} {split} images; remove these findings "
            "or give more data"
        )

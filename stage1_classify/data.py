"""From the tables of a data set to batches: decode once, augment, order, collate."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from cxr.config import UserError
from stage1_classify.augment import Augmentation
from stage1_classify.pictures import Pictures
from stage1_classify.studies import Cases

_DECODE_THREADS = 4


@dataclass(frozen=True)
class Split:
    """A part of the data: its pictures, its cases, and their targets (cases, K), NaN where masked."""

    pictures: Pictures
    cases: Cases
    targets: npt.NDArray[np.float32]


class TrainingSet(TorchDataset[tuple[Tensor, Tensor, int]]):
    """(input (C, H, W), targets (K,), index); the augmentation of an item depends on seed, epoch and index alone."""

    def __init__(
        self,
        pictures: Pictures,
        targets: npt.NDArray[np.float32],
        augmentation: Augmentation,
        *,
        num_channels: int,
        seed: int,
    ) -> None:
        assert len(pictures) == len(targets)
        self._pictures = pictures
        self._targets = torch.from_numpy(targets)
        self._augmentation = augmentation
        self._num_channels = num_channels
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        seed = zlib.crc32(f"{self._seed} {self.epoch} {index}".encode())
        picture = self._augmentation(self._pictures[index], seed=seed)
        return self._pictures.to_input(picture, self._num_channels), self._targets[index], index


class EpochSampler(Sampler[list[int]]):
    """Batches of one process, such that step i of all processes together is step i of a single process.

    The order is a permutation drawn from (seed, epoch); a last batch that is not full is left out, so all processes
    make equally many steps.
    """

    def __init__(
        self, num_items: int, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if batch_size % world_size:
            raise UserError(
                f"train.batch_size: got {batch_size}, expected a multiple of the {world_size} processes"
            )
        if num_items < batch_size:
            raise UserError(
                f"train.batch_size: got {batch_size}, but the training split has {num_items} images; make it smaller"
            )
        self._num_items, self._batch_size = num_items, batch_size
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self.epoch = 0

    def __len__(self) -> int:
        return self._num_items // self._batch_size

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self._seed, self.epoch)).permutation(self._num_items)
        for step in range(len(self)):
            batch = order[step * self._batch_size : (step + 1) * self._batch_size]
            yield batch[self._rank :: self._world_size].tolist()


def training_loader(
    items: TrainingSet, sampler: EpochSampler, *, num_workers: int
) -> DataLoader[tuple[Tensor, Tensor, int]]:
    """Loader that follows the sampler's batches. Workers are made anew each epoch, so that they see its number."""
    return DataLoader(items, batch_sampler=sampler, num_workers=num_workers)


def check_no_empty_finding(labels: pd.DataFrame, *, split: str) -> None:
    """Raise a UserError when a finding has no positive in the training labels: it could never be learnt."""
    empty = [str(name) for name in labels.columns if not (labels[name] == 1).any()]
    if empty:
        raise UserError(
            f"findings: {', '.join(empty)} without a positive among {len(labels)} {split} images; "
            "take them out of `findings` or give more data"
        )

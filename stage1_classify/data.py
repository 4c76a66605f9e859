"""From the tables of a data set to batches: decode once, augment, order, collate."""

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from cxr.config import UserError
from cxr.datasets.tables import SHOWN_PROBLEMS, Dataset
from cxr.geometry import Resize
from cxr.images import Region, min_max, read_image
from cxr.progress import track
from stage1_classify.augment import Augmentation, Picture
from stage1_classify.config import InputSettings

_DECODE_THREADS = 4


class Pictures:
    """The images of a data set as (H, W) uint8 at the network's size, kept in memory while they fit.

    Each picture is stretched to [0, 1] by its own minimum and maximum *before* anything else (raw ranges differ by
    vendor), then resized. An image that cannot be decoded is an error that names it.
    """

    def __init__(self, dataset: Dataset, settings: InputSettings, *, progress: bool = False) -> None:
        self._dataset = dataset
        self._settings = settings
        self.image_ids: list[str] = dataset.images["image_id"].tolist()
        self._rows = dataset.images[["path", "region"]].to_numpy()
        num_bytes = len(self._rows) * settings.size_hw[0] * settings.size_hw[1]
        self._cache = self._decode_all(progress) if num_bytes <= settings.cache_gib * 2**30 else None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Picture:
        return self._cache[index] if self._cache is not None else self._decode(index)

    def transform(self, image_hw: tuple[int, int]) -> Resize:
        """The geometry between an image's pixels and the network's."""
        return Resize(image_hw, self._settings.size_hw, self._settings.keep_aspect)

    def to_input(self, picture: Picture, num_channels: int) -> Tensor:
        """(H, W) uint8 to (num_channels, H, W) float32, normalised."""
        scaled = torch.from_numpy(np.ascontiguousarray(picture)).float().div_(255)
        scaled = scaled.sub_(self._settings.mean).div_(self._settings.std)
        return scaled.expand(num_channels, -1, -1)

    def batch(self, indices: Sequence[int], num_channels: int) -> Tensor:
        """(B, num_channels, H, W) of the pictures at `indices`, not augmented."""
        return torch.stack([self.to_input(self[index], num_channels) for index in indices])

    def _decode(self, index: int) -> Picture:
        path, region = self._rows[index]
        image = min_max(read_image(self._dataset.root / path, region=_as_region(region)))
        resized = self.transform((image.shape[0], image.shape[1])).apply(image)
        picture = np.round(resized * 255).astype(np.uint8)
        if self._settings.clahe_clip is None:
            return picture
        return np.asarray(cv2.createCLAHE(self._settings.clahe_clip, (8, 8)).apply(picture), dtype=np.uint8)

    def _decode_all(self, progress: bool) -> npt.NDArray[np.uint8]:
        cache = np.empty((len(self), *self._settings.size_hw), dtype=np.uint8)
        problems: list[str] = []
        with ThreadPoolExecutor(_DECODE_THREADS) as pool:
            decoded = pool.map(self._decode_or_problem, range(len(self)))
            for index, picture in enumerate(track(decoded, "decoding", total=len(self), show=progress)):
                if isinstance(picture, str):
                    problems.append(picture)
                else:
                    cache[index] = picture
        if problems:
            total = f"image: {len(problems)} of {len(self)} cannot be read; mend them or take them out of the table"
            raise UserError([*problems[:SHOWN_PROBLEMS], total])
        return cache

    def _decode_or_problem(self, index: int) -> Picture | str:
        try:
            return self._decode(index)
        except UserError as error:
            return error.problems[0]


def _as_region(text: str) -> Region:
    regions: dict[str, Region] = {"full": "full", "left": "left", "right_mirrored": "right_mirrored"}
    return regions[text]


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

"""The pictures of a data set as the network takes them: decoded once, kept, normalised."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cxr.config import UserError
from cxr.datasets.tables import SHOWN_PROBLEMS, Dataset
from cxr.geometry import Resize
from cxr.images import Region, min_max, read_image
from cxr.progress import track
from stage1_classify.config import InputSettings

Picture = npt.NDArray[np.uint8]

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
        self._cache = self._decode_all(progress) if settings.cache_dir is not None else None

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
        scaled = scaled.sub_(self._settings.mean[0]).div_(self._settings.std[0])
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

"""The images of a data set as the network's input: decoded once, cached, normalised."""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cxr.config import UserError
from cxr.imaging.cache import PictureCache, decode_each
from cxr.imaging.equalise import central, resize_of
from cxr.imaging.geometry import Resize
from cxr.imaging.image_decoder import ImageDecoder
from cxr.imaging.network_input import NetImage
from cxr.imaging.settings import InputSettings
from cxr.progress import track
from cxr.tables import SHOWN_PROBLEMS, Dataset, Exclusion, OnProblem

FORMAT = 5
"""Version of the decoding. A new number keeps cached pictures of older versions from being used."""

UNDECODABLE = "image that cannot be decoded"

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

log = logging.getLogger("raybox")


class Pictures:
    """The images of a data set as uint8 at the network's size: (H, W), or (H, W, 3) with channels: clahe3.

    Each image is stretched by its own minimum and maximum, resized (`to_net_image`), and equalised if the settings say
    so. The results are cached in `settings.cache_dir`.

    Raises:
        UserError: images cannot be decoded (see `decodable`), or the cache cannot be written.
    """

    def __init__(self, dataset: Dataset, settings: InputSettings, *, progress: bool = False) -> None:
        self.settings = settings
        self._is_lateral = (dataset.images["view"] == "lateral").to_numpy()
        self._decode: ImageDecoder | _InMemory = ImageDecoder(dataset, settings)
        self._cache = None
        if settings.cache_dir is not None:
            self._cache = PictureCache(cache_folder(settings), ImageDecoder(dataset, settings), progress=progress)
            if self._cache.problems:
                raise UserError(_error_lines(list(self._cache.problems.values()), len(self)))

    @classmethod
    def of(cls, pictures: Sequence[NetImage], settings: InputSettings) -> "Pictures":
        """Pictures that are in memory already, decoded with these settings (see `picture_of`)."""
        own = cls.__new__(cls)
        own.settings, own._decode, own._cache = settings, _InMemory(pictures), None
        own._is_lateral = np.zeros(len(pictures), dtype=bool)
        return own

    @property
    def image_ids(self) -> list[str]:
        """The image ids in the order of the pictures."""
        return self._decode.image_ids

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> NetImage:
        """The picture at `index`, uint8; read-only if it comes from the cache."""
        return self._decode(index) if self._cache is None else self._cache[index]

    def are_lateral(self, indices: Sequence[int]) -> Tensor:
        """(B,) bool: whether the pictures at `indices` are lateral views. False where the view is unknown."""
        return torch.from_numpy(self._is_lateral[list(indices)])

    def content_hashes(self, *, progress: bool = False) -> list[str]:
        """`content_hash` of each image: from the cache, or decoded again without one."""
        if self._cache is not None:
            return self._cache.hashes
        decode = self._decode
        assert isinstance(decode, ImageDecoder), "pictures in memory have no content hashes"
        rows = range(len(self))
        return [found for _, found in decode_each(lambda row: decode.with_hash(row)[1], rows, progress=progress)]

    def normalised_by(self, settings: InputSettings) -> "Pictures":
        """The same pictures with another mean and std (see `resolved_input`), without decoding them again."""
        assert _pixel_settings(settings) == _pixel_settings(self.settings), "other settings make other pictures"
        other = copy.copy(self)
        other.settings = settings
        return other

    def transform(self, image_hw: tuple[int, int]) -> Resize:
        """The geometry between an image's pixels and the network's."""
        return resize_of(self.settings, image_hw)

    def to_input(self, picture: NetImage, num_channels: int) -> Tensor:
        """See `input_of`."""
        return input_of(picture, self.settings, num_channels)

    def batch(self, indices: Sequence[int], num_channels: int) -> Tensor:
        """(B, num_channels, H, W) float32 of the pictures at `indices`, or of their centres, without augmentation."""
        return torch.stack([self.to_input(central(self[index], self.settings), num_channels) for index in indices])


def input_of(picture: NetImage, settings: InputSettings, num_channels: int) -> Tensor:
    """(H, W) or (H, W, 3) uint8 to (num_channels, H, W) float32, normalised; a grey channel is repeated.

    Raises:
        UserError: `input.mean` or `input.std` has neither one value nor one per channel.
    """
    check_layout(picture)
    assert settings.normalise == "fixed", f"normalise={settings.normalise}: see resolved_input"
    tables = _input_tables(tuple(settings.mean), tuple(settings.std), num_channels)
    if picture.ndim == 2:
        planes = [picture] * len(tables)
    else:
        assert num_channels == 3, f"a picture of three channels for a network of {num_channels}"
        planes = list(cv2.split(picture))
        tables = tables * (3 // len(tables))
    values = [torch.from_numpy(cv2.LUT(*pair)) for pair in zip(planes, tables, strict=True)]
    return torch.stack(values) if len(values) > 1 else values[0].expand(num_channels, -1, -1)


def check_layout(picture: NetImage) -> None:
    """Assert that a picture is (H, W) or (H, W, 3) uint8, since channels in front would be mistaken for rows."""
    is_picture = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
    assert is_picture, (
        f"expected a picture (H, W) or (H, W, 3), got {picture.shape}; only the network's input has them in front"
    )
    assert picture.dtype == np.uint8, f"expected uint8, got {picture.dtype}"


class _InMemory:
    """Pictures in place of a decoder."""

    def __init__(self, pictures: Sequence[NetImage]) -> None:
        self.image_ids = [str(row) for row in range(len(pictures))]
        self._pictures = pictures

    def __call__(self, row: int, /) -> NetImage:
        return self._pictures[row]


def cache_folder(settings: InputSettings) -> Path:
    """The cache's folder for these settings. Settings that do not change the pixels, such as mean, share a folder."""
    assert settings.cache_dir is not None
    return settings.cache_dir / _pixel_settings(settings)


def _pixel_settings(settings: InputSettings) -> str:
    """The name of all settings that change the pixels."""
    height, width = settings.size_hw
    frame = "letterbox" if settings.keep_aspect else "squash"
    clip = "" if settings.clahe_clip is None else f"_clahe{settings.clahe_clip!r}"
    return f"v{FORMAT}_{height}x{width}_{frame}_{settings.channels}{clip}"


def decodable(
    dataset: Dataset,
    settings: InputSettings,
    *,
    on_problem: OnProblem | Mapping[str, OnProblem],
    progress: bool = False,
) -> Dataset:
    """The data set without the images that cannot be decoded; these are added to `excluded`. Fills the cache.

    Data set modules check only names and headers. Without a cache and with on_problem "error", nothing is decoded in
    advance and the data set is returned unchanged: a damaged image raises an error when it is first used.

    Args:
        on_problem: by name of the data set where there are several.

    Raises:
        UserError: images cannot be decoded and on_problem is "error", or none can be. The first 20 are named.
    """
    strict = {on_problem} if isinstance(on_problem, str) else set(on_problem.values())
    if settings.cache_dir is None and strict == {"error"}:
        return dataset
    problems = _problems(ImageDecoder(dataset, settings), settings, progress=progress)
    if not problems:
        return dataset
    sets = dataset.images["set"].iloc[list(problems)]
    rules = [on_problem if isinstance(on_problem, str) else on_problem[name] for name in sets]
    if "error" in rules or len(problems) == len(dataset.images):
        raise UserError(_error_lines(list(problems.values()), len(dataset.images)))
    for reason in list(problems.values())[:SHOWN_PROBLEMS]:
        log.warning("excluded: %s", reason)
    ids = dataset.images["image_id"]
    bad = ids.iloc[list(problems)].tolist()
    found = tuple(Exclusion(image_id, UNDECODABLE) for image_id in bad)
    return replace(dataset.select(ids[~ids.isin(bad)]), excluded=(*dataset.excluded, *found))


def decodable_splits(
    dataset: Dataset,
    splits: Mapping[str, Sequence[str]],
    settings: InputSettings,
    *,
    on_problem: OnProblem | Mapping[str, OnProblem],
    progress: bool = False,
) -> tuple[Dataset, dict[str, list[str]]]:
    """`decodable` for the images of the splits: the data set and the splits without undecodable images."""
    used = dataset.select(image_id for part in splits.values() for image_id in part)
    whole = decodable(used, settings, on_problem=on_problem, progress=progress)
    there = set(whole.images["image_id"])
    return whole, {name: [i for i in part if i in there] for name, part in splits.items()}


def _problems(decoder: ImageDecoder, settings: InputSettings, *, progress: bool) -> dict[int, str]:
    """Row -> the reason why its image cannot be decoded."""
    if settings.cache_dir is not None:
        return PictureCache(cache_folder(settings), decoder, progress=progress).problems

    def problem(row: int) -> str | None:
        try:
            decoder(row)
        except UserError as error:
            return error.problems[0]
        return None

    tried = decode_each(problem, range(len(decoder.image_ids)), progress=progress)
    return {row: reason for row, reason in tried if reason is not None}


def _error_lines(problems: list[str], num_images: int) -> list[str]:
    advice = "repair them, remove them from the table, or set data.on_problem=exclude"
    if len(problems) == num_images:
        advice = "no image is left; check data.root and the table's path column"
    total = f"image: {len(problems)} of {num_images} cannot be read; {advice}"
    return [*problems[:SHOWN_PROBLEMS], total]


def resolved_input(
    settings: InputSettings, pictures: Pictures, *, num_channels: int, progress: bool = False
) -> InputSettings:
    """Replace `normalise` by "fixed" with the mean and standard deviation that it asks for.

    imagenet: ImageNet's values for three channels. For one channel their average, because timm sums the three
    input kernels of a pretrained network (in_chans=1). training_set: computed from all pixels of `pictures`, including
    letterbox bars, per channel; grey pictures have one value for all channels.

    Raises:
        UserError: normalise is "training_set" and all pixels are equal.
    """
    if settings.normalise == "fixed":
        return settings
    if settings.normalise == "training_set":
        mean, std = _statistics(pictures, progress=progress)
    elif num_channels == 1:
        mean, std = ([round(sum(values) / 3, 6)] for values in (IMAGENET_MEAN, IMAGENET_STD))
    else:
        mean, std = list(IMAGENET_MEAN), list(IMAGENET_STD)
    return settings.model_copy(update={"normalise": "fixed", "mean": mean, "std": std})


def _statistics(pictures: Pictures, *, progress: bool) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in [0, 1], from exact integer sums."""
    counts = np.zeros((1, 256), dtype=np.int64)
    for index in track(range(len(pictures)), "mean and standard deviation", show=progress):
        planes = np.atleast_3d(pictures[index]).transpose(2, 0, 1)
        counts = counts + np.stack([np.bincount(plane.ravel(), minlength=256) for plane in planes])
    mean, std = [], []
    for histogram in counts.tolist():
        total = sum(histogram)
        first = sum(level * count for level, count in enumerate(histogram))
        second = sum(level**2 * count for level, count in enumerate(histogram))
        if second * total == first**2:
            raise UserError(
                "input.normalise=training_set: all training pixels are equal, so they have no standard deviation; "
                "check the images or set input.normalise=fixed"
            )
        mean.append(first / (255 * total))
        std.append(((second * total - first**2) / (255 * total) ** 2) ** 0.5)
    return mean, std


@cache
def _input_tables(mean: tuple[float, ...], std: tuple[float, ...], num_channels: int) -> list[npt.NDArray[np.float32]]:
    """The normalised value of each of the 256 levels: one table for all channels, or one per channel."""
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, num_channels):
            raise UserError(
                f"input.{name}: got {len(values)} values, expected one, or one for each of the {num_channels} channels "
                "(backbone.in_channels)"
            )
    levels = torch.arange(256).float().div_(255)
    num_tables = max(len(mean), len(std))
    pairs = zip(mean * (num_tables // len(mean)), std * (num_tables // len(std)), strict=True)
    return [levels.sub(shift).div_(scale).numpy() for shift, scale in pairs]

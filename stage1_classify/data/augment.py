"""Augmentation of decoded images with Albumentations. Each image has its own seed, so a resumed run repeats it."""

import os
import random
import zlib
from functools import cache
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the network for a newer version

import albumentations as A
import cv2
import numpy as np
import torch
from torch import Tensor

from cxr.arrays import Float32s
from cxr.config import UserError
from cxr.imaging.network_input import NetImage
from cxr.imaging.pictures import check_layout
from stage1_classify.settings.input import AugmentSettings

_WIDE_SIGMA_PX = 8.0
"""From this sigma on, a Gaussian is faster on a coarse grid than with OpenCV's kernel of 8 sigma pixels."""


def picture_seed(seed: int, epoch: int, row: int) -> int:
    """Seed of one image's augmentation, from the run's seed, the epoch and the image's row."""
    return zlib.crc32(f"{seed} {epoch} {row}".encode())


class Augmentation:
    """From (H, W) or (H, W, 3) uint8 to the same, or to a crop, all channels alike. Equal seeds give equal images.

    Random numbers and strengths are those of Albumentations. A single grey channel, float32 maps and a faster Gaussian
    make it several times as fast as the library (tests/benchmarks/bench_augment.py).
    """

    def __init__(self, settings: AugmentSettings, *, crop_hw: tuple[int, int] | None = None) -> None:
        """crop_hw: the result is a random crop of this size (`InputSettings.crop_hw`)."""
        crop = [] if crop_hw is None else [A.RandomCrop(*crop_hw)]
        self._compose = A.Compose([*_transforms(settings).values(), *crop])

    def __call__(self, picture: NetImage, *, seed: int) -> NetImage:
        check_layout(picture)
        # One random stream for all parts. `set_random_seed` would give each part the same one, so that parts of equal
        # probability would always be applied together.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        augmented: NetImage = self._compose(image=picture)["image"]
        return augmented


def augmentation_steps(
    picture: NetImage, settings: AugmentSettings, *, seed: int, crop_hw: tuple[int, int] | None = None
) -> list[tuple[str, NetImage]]:
    """The decoded image and the image after each part (flip, affine, ..., crop), for display.

    The last one equals the result of `Augmentation` with this seed. Parts that this seed skips change nothing.
    """
    names = list(_transforms(settings))
    shown = [("decoded", picture)]
    for count, name in enumerate(names, start=1):
        # parts use random numbers one after the other, so the first few get the same ones as among all
        first = settings.model_copy(update={f"{later}_probability": 0.0 for later in names[count:]})
        shown.append((name, Augmentation(first)(picture, seed=seed)))
    if crop_hw is not None:
        shown.append(("crop", Augmentation(settings, crop_hw=crop_hw)(picture, seed=seed)))
    return shown


def _transforms(settings: AugmentSettings) -> dict[str, A.BasicTransform]:
    """The parts with a positive probability, in the order in which they are applied."""
    factors = (1 - settings.contrast_limit, 1 + settings.contrast_limit)
    parts = {
        "flip": A.HorizontalFlip(p=settings.flip_probability),
        "affine": A.Affine(
            scale=(1 - settings.scale_share, 1 + settings.scale_share),
            translate_percent=(-settings.translate_share, settings.translate_share),
            rotate=(-settings.rotate_deg, settings.rotate_deg),
            shear=(-settings.shear_deg, settings.shear_deg),
            border_mode=cv2.BORDER_CONSTANT,
            p=settings.affine_probability,
        ),
        "grid": _GridDistortion(settings.grid_steps, settings.grid_limit, p=settings.grid_probability),
        "elastic": _ElasticTransform(settings.elastic_alpha, settings.elastic_sigma, p=settings.elastic_probability),
        "contrast": A.ColorJitter(factors, factors, (1.0, 1.0), (0.0, 0.0), p=settings.contrast_probability),
        "erase": A.CoarseDropout(
            num_holes_range=(1, 3),
            hole_height_range=(0.05, 0.2),
            hole_width_range=(0.05, 0.2),
            fill=0,
            p=settings.erase_probability,
        ),
    }
    return {name: part for name, part in parts.items() if part.p > 0}


class _GridDistortion(A.GridDistortion):  # type: ignore[misc]  # untyped there
    """The library's transform, but its maps go to OpenCV directly."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        if self.num_steps > min(height, width):
            raise UserError(
                f"augment.grid_steps: got {self.num_steps}, expected at most the {min(height, width)} px of the "
                "picture's shorter side; make it smaller"
            )
        return dict(super().get_params_dependent_on_data(params, data))

    def apply(self, img: NetImage, map_x: Float32s, map_y: Float32s, **_: Any) -> NetImage:
        return _remap(img, map_x, map_y)


class _ElasticTransform(A.ElasticTransform):  # type: ignore[misc]  # untyped there
    """The library's displacements (Simard et al. 2003), computed faster."""

    def get_params_dependent_on_data(self, params: dict[str, Any], **_: Any) -> dict[str, Any]:
        height, width = params["shape"][:2]
        map_x, map_y = displacements(
            (height, width), alpha=self.alpha, sigma=self.sigma, generator=self.random_generator
        )
        map_x += np.arange(width, dtype=np.float32)
        map_y += np.arange(height, dtype=np.float32)[:, None]
        return {"map_x": map_x, "map_y": map_y}

    def apply(self, img: NetImage, map_x: Float32s, map_y: Float32s, **_: Any) -> NetImage:
        return _remap(img, map_x, map_y)


def _remap(picture: NetImage, map_x: Float32s, map_y: Float32s) -> NetImage:
    remapped: NetImage = cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return remapped


def displacements(size_hw: tuple[int, int], *, alpha: float, sigma: float, generator: np.random.Generator) -> Float32s:
    """(2, H, W) displacements in x and in y, in pixels.

    White noise is divided by its maximum absolute value, smoothed with a Gaussian of `sigma` pixels and multiplied by
    `alpha`, as in the ElasticTransform of Albumentations. Both fields are smoothed in one piece, as there.
    """
    height, width = size_hw
    noise = generator.standard_normal((2 * height, width), dtype=np.float32)
    fields = _smooth(noise, sigma)
    fields *= alpha / max(cv2.norm(noise, cv2.NORM_INF), 1e-6)
    return fields.reshape(2, height, width)


def _smooth(values: Float32s, sigma: float) -> Float32s:
    """Gaussian smoothing of (H, W) with replicated borders, into a new array."""
    if sigma < _WIDE_SIGMA_PX:
        blurred: Float32s = cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        return blurred
    (to_rows, from_rows), (to_columns, from_columns) = (coarse_gaussian(n, sigma) for n in values.shape)
    coarse = from_rows @ torch.from_numpy(values) @ from_columns.T
    return np.asarray((to_rows @ coarse @ to_columns.T).numpy())


@cache
def coarse_gaussian(length: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Gaussian smoothing of `length` samples as the product of two matrices, (length, n) and (n, length).

    A Gaussian is the convolution of two Gaussians that are narrower by sqrt 2. The integral between them equals a sum
    over a grid of spacing sigma / 2 to float32 precision (the trapezoidal rule converges exponentially, Trefethen &
    Weideman 2014). OpenCV's kernel ends at 4 sigma, which differs by 1e-3 of the smoothed noise.
    """
    narrow = sigma / np.sqrt(2)
    reach = 4.5 * narrow
    num_coarse = int(np.ceil((length - 1 + 2 * reach) / (sigma / 2))) + 1
    centres = (length - 1) / 2 + sigma / 2 * (np.arange(num_coarse) - (num_coarse - 1) / 2)
    border = int(np.ceil(2 * reach))
    positions = np.arange(-border, length + border)
    weights = np.exp(-(((centres[:, None] - positions) / narrow) ** 2) / 2)
    flat = weights[:, border:-border].copy()
    flat[:, 0] += weights[:, :border].sum(axis=1)
    flat[:, -1] += weights[:, -border:].sum(axis=1)
    tall = weights[:, border:-border].T
    tall = tall / (tall @ flat.sum(axis=1))[:, None]
    return torch.from_numpy(tall.astype(np.float32)), torch.from_numpy(flat.astype(np.float32))

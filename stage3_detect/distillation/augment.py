"""Random changes of a batch of pictures, made before both networks see it."""

import math

import torch
from torch import Tensor, nn

from stage3_detect.settings.detector import AugmentSettings

_CONTRAST, _GAMMA = 0.2, 0.2
"""Largest relative changes, as in the training on boxes."""


def augment(pictures: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Flip, rotate, scale and shift each picture, then change brightness, contrast and gamma, within the limits of
    the training on boxes. Content outside a picture is black.

    Args:
        pictures: (B, 1, H, W) in [0, 1]. generator: on the CPU, so that all devices draw the same.
    """
    matrices = _matrices(len(pictures), (pictures.shape[2], pictures.shape[3]), settings, generator)
    grid = nn.functional.affine_grid(matrices.to(pictures.device), list(pictures.shape), align_corners=False)
    moved = nn.functional.grid_sample(pictures, grid, align_corners=False)
    return _change_grey(moved, settings.contrast_probability, generator)


def _matrices(count: int, picture_hw: tuple[int, int], settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """(B, 2, 3) from output to input coordinates, which run from -1 to 1 over each side."""
    height, width = picture_hw
    angle = _uniform(count, math.radians(settings.rotate_deg), generator)
    zoom = 1 / (1 + _uniform(count, settings.scale_share, generator))
    shifts = [2 * _uniform(count, settings.translate_share, generator) for _ in range(2)]
    sign = 1 - 2 * (torch.rand(count, generator=generator) < settings.flip_probability).float()
    cosine, sine = angle.cos() * zoom, angle.sin() * zoom
    # the aspect ratio keeps angles right, because both sides have the length 2
    rows = [cosine * sign, -sine * height / width, shifts[0], sine * sign * width / height, cosine, shifts[1]]
    return torch.stack(rows, 1).reshape(count, 2, 3)


def _change_grey(pictures: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    count, device = len(pictures), pictures.device
    each = [_sometimes(count, size, probability, generator).to(device) for size in (_CONTRAST, _CONTRAST, _GAMMA)]
    contrast, brightness, gamma = (one.reshape(-1, 1, 1, 1) for one in each)
    return (pictures * (1 + contrast) + brightness).clamp(0, 1) ** (1 + gamma)


def _sometimes(count: int, limit: float, probability: float, generator: torch.Generator) -> Tensor:
    """(B,) uniform in [-limit, limit] with this probability, else 0."""
    chosen = torch.rand(count, generator=generator) < probability
    return _uniform(count, limit, generator) * chosen


def _uniform(count: int, limit: float, generator: torch.Generator) -> Tensor:
    return (2 * torch.rand(count, generator=generator) - 1) * limit

"""Random changes of a batch of pictures, made before both networks see it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stage3_detect.settings.detector import AugmentSettings

_GREY_SHARE = 0.2
"""Largest change of brightness, contrast and gamma, as in the training on boxes."""


@dataclass(frozen=True)
class Moves:
    """One number per picture, (B,) each.

    angle: radians, clockwise. scale: of the content. right, down: shifts as shares of the width and height.
    flip: -1 for a left-right flip, else 1; it comes first.
    """

    angle: Tensor
    scale: Tensor
    right: Tensor
    down: Tensor
    flip: Tensor


def augment(pictures: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Flip, rotate, scale and shift each picture, then change brightness, contrast and gamma, within the limits of
    the training on boxes. There is no mosaic.

    Args:
        pictures: (B, 1, H, W) in [0, 1].
        generator: on the CPU, so that all devices draw the same.
    """
    moves = draw_moves(len(pictures), settings, generator)
    return _change_grey(moved(pictures, moves), settings.contrast_probability, generator)


def draw_moves(count: int, settings: AugmentSettings, generator: torch.Generator) -> Moves:
    """Random moves of `count` pictures, uniform within the settings' limits."""
    return Moves(
        _uniform(count, math.radians(settings.rotate_deg), generator),
        1 + _uniform(count, settings.scale_share, generator),
        _uniform(count, settings.translate_share, generator),
        _uniform(count, settings.translate_share, generator),
        1 - 2 * (torch.rand(count, generator=generator) < settings.flip_probability).float(),
    )


def moved(pictures: Tensor, moves: Moves) -> Tensor:
    """Flip, rotate and scale pictures (B, C, H, W) around their centre, then shift them. Content from outside is 0."""
    height, width = pictures.shape[2:]
    cosine, sine = moves.angle.cos() / moves.scale, moves.angle.sin() / moves.scale
    # from output to input; coordinates run from -1 to 1 over each side, so the aspect ratio keeps angles right
    rows = torch.stack([cosine * moves.flip, sine * moves.flip * height / width], 1)
    columns = torch.stack([-sine * width / height, cosine], 1)
    linear = torch.stack([rows, columns], 1)
    shift = 2 * torch.stack([moves.right, moves.down], 1)[..., None]
    matrices = torch.cat([linear, -linear @ shift], 2).to(pictures.device)
    grid = nn.functional.affine_grid(matrices, list(pictures.shape), align_corners=False)
    return nn.functional.grid_sample(pictures, grid, align_corners=False)


def _change_grey(pictures: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Brightness and contrast of a picture change together or not at all, and gamma independently of them."""
    count = len(pictures)
    linear, other = (torch.rand(count, generator=generator) < probability for _ in range(2))
    contrast, brightness, gamma = (
        (_uniform(count, _GREY_SHARE, generator) * chosen).reshape(-1, 1, 1, 1).to(pictures.device)
        for chosen in (linear, linear, other)
    )
    return (pictures * (1 + contrast) + brightness).clamp(0, 1) ** (1 + gamma)


def _uniform(count: int, limit: float, generator: torch.Generator) -> Tensor:
    return (2 * torch.rand(count, generator=generator) - 1) * limit

"""Pictures move as a direct computation in pixels says, and grey values stay within their limits."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from stage3_detect.distillation.augment import Moves, augment, draw_moves, moved
from stage3_detect.settings.detector import AugmentSettings

HEIGHT, WIDTH = 40, 64

OFF = AugmentSettings(
    flip_probability=0, rotate_deg=0, translate_share=0, scale_share=0, mosaic_probability=0, contrast_probability=0
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_pictures(count: int) -> Tensor:
    return torch.rand(count, 1, HEIGHT, WIDTH, generator=generator(5))


def moves_of(*, angle: float = 0, scale: float = 1, right: float = 0, down: float = 0, flip: float = 1) -> Moves:
    return Moves(*(torch.tensor([value], dtype=torch.float32) for value in (angle, scale, right, down, flip)))


def test_no_change() -> None:
    pictures = some_pictures(3)
    assert torch.allclose(augment(pictures, OFF, generator()), pictures, atol=1e-5)


def test_flip_and_whole_pixel_shift_are_exact() -> None:
    picture = some_pictures(1)
    assert torch.allclose(moved(picture, moves_of(flip=-1)), picture.flip(3), atol=1e-5)
    shifted = moved(picture, moves_of(right=8 / WIDTH, down=-5 / HEIGHT))
    assert torch.allclose(shifted[..., : HEIGHT - 5, 8:], picture[..., 5:, : WIDTH - 8], atol=1e-4)
    assert not shifted[..., HEIGHT - 5 :, :].any() and not shifted[..., :8].any()


@pytest.mark.parametrize(
    "moves",
    [
        {"angle": math.radians(30)},
        {"scale": 1.25, "right": 0.1},
        {"angle": math.radians(-12), "scale": 0.8, "right": -0.05, "down": 0.1},
        {"angle": math.radians(20), "scale": 1.1, "right": 0.1, "down": -0.1, "flip": -1},
    ],
)
def test_a_point_goes_where_the_moves_take_it(moves: dict[str, float]) -> None:
    """A bright spot is flipped, turned clockwise (y points down), scaled and shifted, in pixels."""
    ys, xs = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    spot = np.exp(-((xs - 40) ** 2 + (ys - 14) ** 2) / 8)
    found = moved(torch.from_numpy(spot).float()[None, None], moves_of(**moves))[0, 0].double().numpy()
    centroid = (found * xs).sum() / found.sum(), (found * ys).sum() / found.sum()
    offset = complex((40 - WIDTH / 2) * moves.get("flip", 1), 14 - HEIGHT / 2)
    turned = offset * np.exp(1j * moves.get("angle", 0)) * moves.get("scale", 1)
    expected = turned.real + WIDTH * (0.5 + moves.get("right", 0)), turned.imag + HEIGHT * (0.5 + moves.get("down", 0))
    assert centroid == pytest.approx(expected, abs=0.05)
    assert found.sum() / spot.sum() == pytest.approx(moves.get("scale", 1) ** 2, rel=0.01)


def test_each_picture_has_moves_of_its_own() -> None:
    pictures = some_pictures(2)
    both = Moves(*(torch.tensor(pair) for pair in ((0.0, 0.2), (1.0, 0.9), (0.0, 0.1), (0.0, 0.0), (-1.0, 1.0))))
    single = moved(pictures[1:], moves_of(angle=0.2, scale=0.9, right=0.1))
    assert torch.allclose(moved(pictures, both)[1:], single, atol=1e-5)


def test_moves_stay_within_the_limits() -> None:
    settings = AugmentSettings(flip_probability=0.25, rotate_deg=10, translate_share=0.2, scale_share=0.3)
    moves = draw_moves(4000, settings, generator())
    limits = {"angle": math.radians(10), "right": 0.2, "down": 0.2}
    for name, limit in limits.items():
        values = getattr(moves, name)
        assert -limit <= values.min() < -0.98 * limit and 0.98 * limit < values.max() <= limit
    assert 0.7 <= moves.scale.min() < 0.71 and 1.29 < moves.scale.max() <= 1.3
    assert set(moves.flip.tolist()) == {-1, 1} and (moves.flip < 0).float().mean() == pytest.approx(0.25, abs=0.03)
    off = draw_moves(3, OFF, generator())
    assert not any(value.any() for value in (off.angle, off.right, off.down))
    assert off.scale.tolist() == off.flip.tolist() == [1, 1, 1]


def test_grey_values_change_by_at_most_a_fifth_and_order_stays() -> None:
    levels = torch.linspace(0.2, 0.7, WIDTH).expand(500, 1, HEIGHT, WIDTH)
    found = augment(levels, OFF.model_copy(update={"contrast_probability": 1.0}), generator())[:, 0, 0]
    assert (found.diff(dim=1) >= 0).all() and found.min() >= 0 and found.max() <= 1
    darkest, lightest = (0.7 * 0.8 - 0.2) ** 1.2, (0.7 * 1.2 + 0.2) ** 0.8
    assert darkest - 1e-5 <= found[:, -1].min() < darkest + 0.1 and lightest - 0.1 < found[:, -1].max() <= 1
    half = augment(levels, OFF.model_copy(update={"contrast_probability": 0.5}), generator())
    unchanged = (half - levels).abs().amax((1, 2, 3)) < 1e-5
    assert unchanged.float().mean() == pytest.approx(0.25, abs=0.05)  # neither brightness nor gamma


def test_the_seed_decides() -> None:
    pictures = some_pictures(2)
    first, same, other = (augment(pictures, AugmentSettings(), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)

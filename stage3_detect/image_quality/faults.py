"""Simulated faults of good images, from which the quality gate learns to name them, and by which it is measured."""

from collections.abc import Callable, Mapping

import numpy as np

from cxr.imaging.files import Pixels

Fault = Callable[[Pixels, np.random.Generator], Pixels]


def inverted(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """Bone dark, as a MONOCHROME1 image that is shown as it is stored."""
    return np.asarray(pixels.max() - pixels, dtype=pixels.dtype)


def rotated(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Lying on its left or right side."""
    return np.ascontiguousarray(np.rot90(pixels, int(rng.choice((1, 3)))))


def upside_down(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """Rotated by 180 degrees."""
    return np.ascontiguousarray(pixels[::-1, ::-1])


def overexposed(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The darker 35 to 60 % of the pixels are black, as where the detector is saturated."""
    limit = np.quantile(pixels[::4, ::4], rng.uniform(0.35, 0.6))
    return np.asarray(np.maximum(pixels.astype(np.float32) - limit, 0), dtype=np.float32)


def underexposed(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The brighter 35 to 60 % of the pixels are white, and noise of 4 % lies over the rest."""
    values = pixels.astype(np.float32) - pixels.min()
    limit = max(float(np.quantile(values[::4, ::4], rng.uniform(0.4, 0.65))), 1e-6)
    noise = rng.normal(0, 0.04 * limit, values.shape).astype(np.float32)
    return np.asarray(np.minimum(values, limit) + noise, dtype=np.float32)


def cropped(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A window at any place with 50 to 70 % of height and width."""
    share = rng.uniform(0.5, 0.7)
    height, width = (max(1, round(side * share)) for side in pixels.shape)
    top, left = (
        int(rng.integers(0, side - part + 1)) for side, part in zip(pixels.shape, (height, width), strict=True)
    )
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


FAULTS: Mapping[str, Fault] = {
    "inverted": inverted,
    "rotated": rotated,
    "upside_down": upside_down,
    "overexposed": overexposed,
    "underexposed": underexposed,
    "cropped": cropped,
}
"""By the reason that the gate gives."""

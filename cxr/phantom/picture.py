"""From layers of matter to an image: sum, scatter, noise, tone curve, and side letters."""

from dataclasses import dataclass

import cv2
import numpy as np

from cxr.phantom.anatomy import Anatomy
from cxr.phantom.canvas import Layer, cloud, ramp, soften

AIR = 0.66
"""Matter that a fully aerated lung removes."""


@dataclass
class Paint:
    """What findings change in the image: rendered by `cxr.phantom.findings`, summed up by `compose`."""

    density: Layer
    """0 the lung is full of air .. 1 as dense as soft tissue."""
    free_air: Layer
    """0 lung .. 1 air without lung (pneumothorax): no vessels, a little darker."""
    added: Layer
    """Matter added anywhere (lines, devices)."""


@dataclass(frozen=True)
class Exposure:
    """How one image is taken and processed."""

    low: float
    high: float
    """Matter shown as black and as white."""
    gamma: float
    scatter: float
    noise: float
    blur_px: float
    equalise: float
    """0 linear .. 1 local equalisation, as some machines do."""


def compose(anatomy: Anatomy, paint: Paint, rng: np.random.Generator) -> Layer:
    """Matter on each ray, (H, W), about 0 (air) to 1.5 (spine behind the heart)."""
    lungs = np.maximum(*anatomy.lungs)
    depth = soften(lungs, 0.09 * anatomy.frame.half_width_px)
    hidden = np.maximum(0.9 * anatomy.heart, 0.8 * anatomy.middle)
    air = lungs * (0.5 + 0.5 * depth) * (1 - hidden)
    air *= 1 + 0.05 * cloud(rng, anatomy.frame, size=0.25) - 0.12 * anatomy.body.fat
    free = paint.free_air
    matter = anatomy.tissue + 0.1 * hidden + anatomy.bones + paint.added
    matter = matter - AIR * air * (1 - paint.density) * (1 + 0.12 * free)
    alive = air * (1 - free) * (1 - 0.85 * paint.density)
    return np.asarray(matter + 0.12 * anatomy.vessels * alive, dtype=np.float32)


def develop(matter: Layer, exposure: Exposure, *, scale_px: float, rng: np.random.Generator) -> Layer:
    """The picture in [0, 1], bone bright. `scale_px` is the half chest width."""
    mixed = (1 - exposure.scatter) * matter + exposure.scatter * soften(matter, 0.25 * scale_px)
    mixed = soften(mixed, exposure.blur_px)
    picture = np.clip((mixed - exposure.low) / (exposure.high - exposure.low), 0, 1)
    picture = picture**exposure.gamma
    if exposure.equalise > 0:
        tool = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(4, 4))
        local = tool.apply((picture * 255).astype(np.uint8)).astype(np.float32) / 255
        picture = (1 - exposure.equalise) * picture + exposure.equalise * local
    # dense places receive fewer photons, hence more noise; nothing in front of plain air
    grain = soften(rng.standard_normal(matter.shape, dtype=np.float32), 0.6) * 1.6
    picture = picture + exposure.noise * grain * (0.35 + ramp(matter))
    return np.asarray(np.clip(picture, 0, 1), dtype=np.float32)


def mark(picture: Layer, rng: np.random.Generator) -> None:
    """Render side letters and, in some images, the edge of a collimator."""
    h, w = picture.shape
    if rng.random() < 0.75:
        size = h / 500 * rng.uniform(0.8, 1.5)
        left = rng.random() < 0.5
        x = int(w * (rng.uniform(0.02, 0.07) if left else rng.uniform(0.88, 0.93)))
        spot = (x, int(h * rng.uniform(0.08, 0.3)))
        value = float(rng.uniform(0.8, 1.0))
        letter = "R" if left else "L"
        cv2.putText(picture, letter, spot, cv2.FONT_HERSHEY_SIMPLEX, size, (value,), 1, cv2.LINE_AA)
    if rng.random() < 0.25:
        for axis in rng.permutation(4)[: int(rng.integers(1, 4))]:
            edge = int(rng.uniform(0.01, 0.035) * min(h, w))
            view = np.rot90(picture, int(axis))
            view[:edge] *= 0.06

"""Rendering tools of the phantom: body coordinates, smooth curves, soft shapes, clouds.

Body coordinates (u, v): u = 0 is the middle of the chest, u = -1 and +1 the outer walls of the
lungs as they lie in the picture (the patient's right is at u < 0); v = 0 is the height of the lung
tips, v = 1 about the height of the diaphragm. A `Frame` places them in a picture of a given size.
Layers are (H, W) float32 with values in [0, 1] unless said otherwise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Layer = NDArray[np.float32]
Points = NDArray[np.float64]  # (N, 2)

SIDES = (-1, 1)
"""-1: the lung at the left of the picture (the patient's right), +1: the other."""

_SHIFT = 4  # fractional bits of cv2's fixed-point coordinates


@dataclass(frozen=True)
class Frame:
    """Where a body lies in a picture: an affine map from (u, v) to pixels (x, y)."""

    size_hw: tuple[int, int]
    centre_xy: tuple[float, float]
    """Pixel position of the body point (0, 0.5)."""
    half_width_px: float
    """Pixels from the middle of the chest to a lung's outer wall."""
    lung_height_px: float
    tilt_rad: float

    @cached_property
    def _matrix(self) -> Points:
        c, s = math.cos(self.tilt_rad), math.sin(self.tilt_rad)
        scale = np.diag([self.half_width_px, self.lung_height_px])
        return np.asarray(np.array([[c, -s], [s, c]]) @ scale)

    def to_px(self, uv: Points) -> Points:
        """Body points (N, 2) as pixel points (N, 2)."""
        offset = np.asarray(uv, dtype=np.float64) - np.array([0.0, 0.5])
        return np.asarray(offset @ self._matrix.T + np.array(self.centre_xy))

    @cached_property
    def grid(self) -> tuple[Layer, Layer]:
        """u and v of each pixel's centre, each (H, W)."""
        h, w = self.size_hw
        inverse = np.linalg.inv(self._matrix)
        x = np.arange(w, dtype=np.float32) + 0.5 - self.centre_xy[0]
        y = np.arange(h, dtype=np.float32)[:, None] + 0.5 - self.centre_xy[1]
        u = inverse[0, 0] * x + inverse[0, 1] * y
        v = inverse[1, 0] * x + inverse[1, 1] * y + 0.5
        return u.astype(np.float32), v.astype(np.float32)

    def empty(self) -> Layer:
        """A layer of zeros."""
        return np.zeros(self.size_hw, dtype=np.float32)


def curve(points: list[tuple[float, float]], *, closed: bool = False, steps: int = 8) -> Points:
    """A smooth (Catmull-Rom) curve through the points, `steps` samples a stretch."""
    p = np.asarray(points, dtype=np.float64)
    before, after = (p[-1:], p[:2]) if closed else (2 * p[:1] - p[1:2], 2 * p[-1:] - p[-2:-1])
    p = np.vstack([before, p, after])
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[None, :, None]
    p0, p1, p2, p3 = (p[i : len(p) - 3 + i, None, :] for i in range(4))
    samples = 0.5 * (
        2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    samples = samples.reshape(-1, 2)
    return samples if closed else np.vstack([samples, p[-2:-1]])


def ellipse(centre: tuple[float, float], radii: tuple[float, float], *, angle: float = 0.0) -> Points:
    """The outline of an ellipse in the coordinates of its arguments, angle in radians."""
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x, y = radii[0] * np.cos(t), radii[1] * np.sin(t)
    c, s = math.cos(angle), math.sin(angle)
    return np.stack([centre[0] + c * x - s * y, centre[1] + s * x + c * y], axis=1)


def fill_px(layer: NDArray[np.uint8], xy: Points, *, value: int = 255) -> None:
    """Fill a pixel polygon into an 8-bit layer, with smooth edges."""
    # cv2 puts the centre of pixel 0 at 0, our pixels have their centre at 0.5
    fixed = np.round((xy - 0.5) * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(layer, [fixed], (value,), lineType=cv2.LINE_AA, shift=_SHIFT)


def soften(layer: Layer, sigma_px: float) -> Layer:
    """Gaussian blur; wide ones run on a smaller picture, which costs little and looks the same."""
    shrink = int(sigma_px // 4)
    if shrink < 2:
        return np.asarray(cv2.GaussianBlur(layer, (0, 0), max(sigma_px, 0.3)), dtype=np.float32)
    h, w = layer.shape
    small = cv2.resize(layer, (-(-w // shrink), -(-h // shrink)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma_px / shrink, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def shape(frame: Frame, uv: Points, *, blur: float = 0.0) -> Layer:
    """The filled body polygon as a layer; `blur` in parts of the half chest width."""
    layer = np.zeros(frame.size_hw, dtype=np.uint8)
    fill_px(layer, frame.to_px(uv))
    soft = layer.astype(np.float32) / np.float32(255)
    return soften(soft, blur * frame.half_width_px) if blur else soft


def ribbon(frame: Frame, uv: Points, *, width: float) -> Points:
    """The pixel outline of a band along a body curve; width in parts of the half chest width."""
    xy = frame.to_px(uv)
    along = np.gradient(xy, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) * (0.5 * width * frame.half_width_px)
    return np.vstack([xy + across, (xy - across)[::-1]])


def bands(frame: Frame, curves: list[tuple[Points, float]], *, core: float = 0.0) -> Layer:
    """Bands (curve, width) in one layer. With `core` > 0 bones: edges bright, inside (1 - core)."""
    outer = np.zeros(frame.size_hw, dtype=np.uint8)
    inner = np.zeros(frame.size_hw, dtype=np.uint8)
    for uv, width in curves:
        fill_px(outer, ribbon(frame, uv, width=width))
        if core:
            fill_px(inner, ribbon(frame, uv, width=0.6 * width))
    layer = outer.astype(np.float32) - np.float32(core) * inner.astype(np.float32)
    return np.asarray(layer / np.float32(255), dtype=np.float32)


def lines(frame: Frame, curves: Sequence[tuple[Points, float]]) -> Layer:
    """Thin lines (curve, width in half chest widths); thinner than a pixel means fainter."""
    layer = np.zeros(frame.size_hw, dtype=np.uint8)
    if not curves:
        return frame.empty()
    ordered = sorted(curves, key=lambda item: item[1])
    # all points at once: there are hundreds of short lines
    xy = frame.to_px(np.concatenate([uv for uv, _ in ordered]))
    fixed = np.round((xy - 0.5) * (1 << _SHIFT)).astype(np.int32)
    ends = np.cumsum([len(uv) for uv, _ in ordered])[:-1]
    for points, (_, width) in zip(np.split(fixed, ends), ordered, strict=True):
        width_px = width * frame.half_width_px
        value = int(255 * min(1.0, width_px))
        thick = max(1, round(width_px))
        cv2.polylines(layer, [points], False, (value,), thick, cv2.LINE_AA, _SHIFT)
    return layer.astype(np.float32) / np.float32(255)


def cloud(rng: np.random.Generator, frame: Frame, *, size: float) -> Layer:
    """Smooth random field, mean 0, deviation about 1; `size` of a lump in half chest widths."""
    h, w = frame.size_hw
    step = max(size * frame.half_width_px, 1.0)
    small = rng.standard_normal((int(h / step) + 3, int(w / step) + 3)).astype(np.float32)
    field = cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field * np.float32(1.35), dtype=np.float32)


def ramp(x: NDArray[np.floating[Any]]) -> Layer:
    """Smooth step: 0 below 0, 1 above 1."""
    t = np.clip(x, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def box_of(mask: NDArray[np.bool_]) -> tuple[float, float, float, float] | None:
    """The tight box (x1, y1, x2, y2) around the true pixels, None when there are none."""
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows) == 0:
        return None
    columns = np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)

"""The vessels of the phantom's lungs: trees that grow out of both hila."""

import math

import numpy as np

from cxr.phantom.canvas import SIDES, Frame, Layer, ellipse, lines, shape, soften

Point = tuple[float, float]

FLATTEN = 0.62
"""Lungs are higher than wide in (u, v): directions are squeezed so that they look even."""


def _branch(rng: np.random.Generator, start: Point, *, angle: float, width: float) -> list[tuple[list[Point], float]]:
    """A vessel and, recursively, its branches: ([start, middle, end], width)."""
    step = 0.5 * rng.uniform(0.12, 0.22) * (0.6 + 16 * width)
    bend = angle + rng.normal(0, 0.22)
    mid = (start[0] + step * math.cos(angle), start[1] + step * FLATTEN * math.sin(angle))
    end = (mid[0] + step * math.cos(bend), mid[1] + step * FLATTEN * math.sin(bend))
    grown = [([start, mid, end], width)]
    if width < 0.0062:
        return grown
    for turn in (rng.uniform(0.15, 0.55), -rng.uniform(0.15, 0.55)):
        thinner = width * rng.uniform(0.6, 0.82)
        grown += _branch(rng, end, angle=bend + turn, width=thinner)
    return grown


def vessels(frame: Frame, turn: float, rng: np.random.Generator) -> Layer:
    """Both trees with the hila they come from, in [0, 1]; `turn` shifts them with the heart."""
    tree: list[tuple[list[Point], float]] = []
    hila = frame.empty()
    for side in SIDES:
        root = (side * 0.21 + turn, 0.49 - 0.02 * side)
        hila += shape(frame, ellipse(root, (0.1, 0.085)), blur=0.05)
        for angle in np.linspace(-1.25, 1.35, 6) + rng.normal(0, 0.12, 6):
            direction = float(angle if side > 0 else math.pi - angle)
            tree += _branch(rng, root, angle=direction, width=rng.uniform(0.02, 0.034))
    points = np.array([branch for branch, _ in tree])
    fine = lines(frame, list(zip(points, [width for _, width in tree], strict=True)))
    return np.asarray(np.maximum(soften(fine, 0.005 * frame.half_width_px), 0.75 * hila), np.float32)

"""The phantom's lateral view. Here u runs from the back (-1) to the breast bone (+1).

It shows the same body and the same findings as the frontal view, more simply, and has no boxes: no
public set has boxes on laterals.
"""

import numpy as np

from cxr.phantom.anatomy import Body
from cxr.phantom.canvas import Frame, Layer, Points, bands, cloud, curve, ellipse, lines, ramp, shape, soften


def lateral(frame: Frame, body: Body, *, findings: frozenset[str], rng: np.random.Generator) -> Layer:
    """Matter on each ray of the side view, (H, W), in the units of `compose`."""
    trunk = _trunk(frame, body)
    lung = shape(frame, _lung(body), blur=0.02)
    heart = shape(frame, _heart(body), blur=0.03)
    air = lung * (0.55 + 0.45 * soften(lung, 0.12 * frame.half_width_px)) * (1 - 0.65 * heart)
    air *= 1 - 0.55 * shape(frame, ellipse((0.02, 0.45), (0.13, 0.1)), blur=0.06)
    density = _density(frame, body, findings=findings, rng=rng)
    _, v = frame.grid
    matter = trunk * (1 + 0.04 * cloud(rng, frame, size=0.5)) + 0.1 * heart
    matter += trunk * 0.14 * np.clip((v - body.dome[0]) / 0.25, 0, 1)
    bones = (_bones(frame, body) + 0.12 * _arms(frame)) * np.minimum(1, 1.5 * trunk)
    matter = matter - 0.62 * air * (1 - density) + bones
    vessels = _vessels(frame, rng)
    return np.asarray(matter + 0.07 * vessels * air * (1 - density), dtype=np.float32)


def _trunk(frame: Frame, body: Body) -> Layer:
    deep = 1.0 + 0.2 * body.fat
    front = [(0.35, -0.8), (0.4, -0.3), (0.75, 0.0), (1.1 * deep, 0.35), (1.14 * deep, 0.8)]
    front += [(1.16 * deep, 1.3), (1.18 * deep, 2.0)]
    if body.female:
        front[4] = (1.32 * deep, 0.75)
    back = [(-1.2 * deep, 2.0), (-1.2 * deep, 1.0), (-1.28 * deep, 0.4), (-1.0, 0.0)]
    back += [(-0.5, -0.3), (-0.42, -0.8)]
    solid = shape(frame, np.vstack([curve(front), curve(back)]), blur=0.012)
    depth = soften(solid, 0.16 * frame.half_width_px)
    return np.asarray(solid * (0.3 + 0.7 * depth**1.6), dtype=np.float32)


def _lung(body: Body) -> Points:
    d = body.dome[0]
    points = [
        (-0.25, 0.03), (0.05, 0.0), (0.35, 0.12), (0.66, 0.3), (0.86, 0.55), (0.93, 0.8),
        (0.9, d + 0.03), (0.55, d - 0.02), (0.1, d), (-0.4, d + 0.07), (-0.78, d + 0.21),
        (-0.88, d + 0.15), (-0.95, 0.75), (-0.9, 0.4), (-0.6, 0.12),
    ]  # fmt: skip
    return curve(points, closed=True)


def _heart(body: Body) -> Points:
    size = (body.heart_left + body.heart_right) / 0.87
    centre = (0.62 - 0.24 * size, body.dome[1] - 0.2 * size)
    return ellipse(centre, (0.36 * size, 0.24 * size), angle=0.55)


def _bones(frame: Frame, body: Body) -> Layer:
    u, v = frame.grid
    ribs: list[tuple[Points, float]] = []
    for i in range(9):
        start = 0.0 + body.rib_step * i
        path = [(-0.85, start), (-0.4, start + 0.08), (0.2, start + 0.24), (0.8, start + 0.36)]
        ribs += [(curve(path), 0.06), (curve([(a, b + 0.03) for a, b in path]), 0.06)]
    layer = 0.06 * soften(bands(frame, ribs, core=0.4), 0.008 * frame.half_width_px)
    bend = -0.72 - 0.16 * np.sin(np.clip(v, -0.3, 1.3) * 2.2)
    phase = (v * 10.5) % 1.0
    inside = 0.5 - 0.5 * np.tanh((np.abs(u - bend) - 0.11) / 0.024)
    layer = layer + inside * (0.13 - 0.08 * np.exp(-(((phase - 0.5) / 0.13) ** 2)))
    breast_bone = curve([(0.6, 0.1), (0.86, 0.3), (0.99, 0.6), (1.0, 0.75)])
    layer = layer + 0.15 * soften(bands(frame, [(breast_bone, 0.06)], core=0.4), 1.0)
    return np.asarray(body.bone * layer, dtype=np.float32)


def _arms(frame: Frame) -> Layer:
    """Raised arms over the lung tips."""
    arm = curve([(0.15, 0.1), (0.45, -0.2), (0.9, -0.6)])
    return soften(bands(frame, [(arm, 0.45)]), 0.05 * frame.half_width_px)


def _vessels(frame: Frame, rng: np.random.Generator) -> Layer:
    tree: list[tuple[Points, float]] = []
    for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False) + rng.normal(0, 0.15, 16):
        way = np.array([np.cos(angle), 0.6 * np.sin(angle)])
        start = np.array([0.0, 0.46])
        ends = [start + k * way + rng.normal(0, 0.03, 2) for k in (0.0, 0.2, 0.42, 0.6)]
        tree.append((curve([(float(p[0]), float(p[1])) for p in ends[:3]]), 0.03))
        tree.append((curve([(float(p[0]), float(p[1])) for p in ends[1:]]), 0.012))
    return soften(lines(frame, tree), 0.006 * frame.half_width_px)


def _density(frame: Frame, body: Body, *, findings: frozenset[str], rng: np.random.Generator) -> Layer:
    """How far findings fill the lung: 0 air .. 1 soft tissue."""
    u, v = frame.grid
    density = frame.empty()
    if "Pleural Effusion" in findings:
        level = body.dome[0] + 0.18 - rng.uniform(0.12, 0.4) * (0.4 + 0.6 * np.abs(u) ** 2)
        density = np.maximum(density, 0.95 * ramp((v - level) / 0.05 + 0.5))
    patches = {"Consolidation": (0.3, 0.75), "Lung Opacity": (0.4, 0.35), "Lung Lesion": (0.14, 0.6)}
    for finding, (size, strength) in patches.items():
        if finding in findings:
            at = (rng.uniform(-0.55, 0.4), rng.uniform(0.25, 0.75))
            ragged = np.hypot(u - at[0], (v - at[1]) * body.aspect) / size
            ragged = ragged + 0.14 * cloud(rng, frame, size=0.6 * size) * (size > 0.2)
            density = np.maximum(density, strength * ramp((1.2 - ragged) / 0.45))
    if "Edema" in findings:
        spread = np.hypot(u, (v - 0.5) * body.aspect) / 0.6
        density = np.maximum(density, 0.4 * ramp((1.2 - spread) / 0.6))
    if "Atelectasis" in findings:
        low = rng.uniform(0.6, 0.8)
        plate = curve([(-0.6, low), (-0.2, low + 0.02), (0.2, low - 0.04)])
        density = np.maximum(density, 0.7 * soften(bands(frame, [(plate, 0.05)]), 1.0))
    return np.asarray(density, dtype=np.float32)

"""The phantom's findings: each has its own rendering rule and returns its true boxes.

A finding is visible by what it does at its own place: fluid levels, a lung edge with air outside
it, dense patches with air-filled bronchi, plates, round nodules, haze. Boxes are tight around what
can be seen (not around what hides behind the heart). Where two findings would cover the same place
the later one looks for another place, or does not happen.
"""

from collections.abc import Callable

import cv2
import numpy as np

from cxr.phantom.canvas import SIDES, Layer, Points, bands, cloud, curve, lines, ramp, soften
from cxr.phantom.scene import Scene, blob, everywhere, place, use_up

DENSE_FINDINGS = ("Consolidation", "Atelectasis", "Lung Lesion", "Edema")
"""Findings that are lung opacities as well; their boxes count for `Lung Opacity` too, as VinDr-CXR
defines that label (any opacity in the lung fields)."""


def paint_effusion(scene: Scene, rng: np.random.Generator) -> bool:
    """Fluid in the pleural space: dense from below up to a level that climbs along the wall."""
    done = False
    for side in SIDES if rng.random() < 0.3 else (rng.choice(SIDES),):
        lung = scene.lung(int(side))
        u, v = scene.frame.grid
        floor = scene.anatomy.body.dome[0 if side < 0 else 1] + 0.14
        height = 0.28 + 0.55 * rng.beta(1.2, 2.0)
        outside = np.clip((side * u - 0.15) / 0.83, 0, 1)
        level = floor - height * (0.35 + 0.65 * outside ** rng.uniform(1.8, 3.2))
        level += 0.004 * cloud(rng, scene.frame, size=0.2)
        fluid = ramp((v - level) / 0.05 + 0.5) * (lung > 0.02)
        mask = (fluid > 0.5) & (lung > 0.5) & scene.seen()
        if scene.record("Pleural Effusion", mask, min_px=7):
            scene.paint.density[:] = np.maximum(scene.paint.density, rng.uniform(0.86, 1.0) * fluid)
            scene.paint.added += 0.1 * fluid * lung
            use_up(scene, mask)
            scene.side, done = int(side), True
    return done


def _wall_distance(scene: Scene, side: int) -> Layer:
    """Distance of a lung's points to its tip and outer wall, in half chest widths."""
    frame = scene.frame
    u, v = frame.grid
    inner = (scene.lung(side) > 0.5).astype(np.uint8)
    # neither the middle nor the diaphragm counts as a wall
    inner |= ((side * u < 0.3) & (v > 0.1)).astype(np.uint8)
    inner |= (v > 0.9).astype(np.uint8)
    framed = cv2.copyMakeBorder(inner, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    distance = cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1] / frame.half_width_px
    return soften(np.asarray(distance, dtype=np.float32), 0.05 * frame.half_width_px)


def paint_pneumothorax(scene: Scene, rng: np.random.Generator) -> bool:
    """Air outside the lung: a black rim without vessels and the thin bright edge of the lung."""
    side = int(rng.choice(SIDES))
    _, v = scene.frame.grid
    distance = _wall_distance(scene, side)
    depth = rng.uniform(0.18, 0.4)
    end = rng.uniform(0.6, 1.25)
    gap = depth * ramp((end - v) / rng.uniform(0.35, 0.7)) * (1 + 0.05 * cloud(rng, scene.frame, size=0.3))
    lung = scene.lung(side)
    rim = ramp((gap - distance) / 0.02 + 0.5) * (lung > 0.05)
    mask = (rim > 0.5) & (lung > 0.5) & (gap > 0.03) & scene.free
    if not scene.record("Pneumothorax", mask, min_px=8):
        return False
    edge = np.exp(-(((gap - distance) / 0.014) ** 2)) * (gap > 0.03) * (lung > 0.5) * (distance > 0.02)
    scene.paint.free_air[:] = np.maximum(scene.paint.free_air, rim)
    squeezed = (lung > 0.5) * (1 - rim) * rng.uniform(0.08, 0.3) * depth / 0.4
    scene.paint.density[:] = np.maximum(scene.paint.density * (1 - rim), squeezed)
    scene.paint.added += rng.uniform(0.11, 0.17) * edge
    use_up(scene, mask)
    scene.side = side
    return True


def paint_consolidation(scene: Scene, rng: np.random.Generator) -> bool:
    """Air replaced by fluid in a part of a lobe: dense, ragged, with air-filled bronchi; 1-2 places."""
    done = False
    for _ in range(1 if rng.random() < 0.72 else 2):
        size = rng.uniform(0.24, 0.48)
        at = place(scene, rng, radius=0.45 * size, region=everywhere(scene))
        if at is None:
            continue
        patch = blob(scene, rng, at=at, radii=(size, size * rng.uniform(0.6, 0.9)), rough=0.16)
        if rng.random() < 0.35:  # a fissure bounds it: a straight edge
            u, v = scene.frame.grid
            slope = rng.uniform(-0.25, 0.25)
            patch = patch * ramp((v - at[1] - slope * (u - at[0]) + 0.35 * size) / 0.02)
        patch = patch * (scene.free | (patch < 0.02))
        bronchi = _bronchi(scene, rng, at=at, size=size)
        dense = soften(patch, 0.012 * scene.frame.half_width_px) * (1 - 0.4 * bronchi)
        mask = (patch > 0.4) & scene.free
        if scene.record("Consolidation", mask, min_px=9):
            mottle = 1 + 0.1 * cloud(rng, scene.frame, size=0.08)
            dense = np.clip(rng.uniform(0.62, 0.9) * dense * mottle, 0, 1)
            scene.paint.density[:] = np.maximum(scene.paint.density, dense)
            use_up(scene, mask)
            done = True
    return done


def _bronchi(scene: Scene, rng: np.random.Generator, *, at: tuple[float, float], size: float) -> Layer:
    """Thin air-filled branches that fan out from the hilum's side."""
    side = 1 if at[0] > 0 else -1
    start = np.array([at[0] - side * 0.7 * size, at[1] + (0.45 - at[1]) * 0.3])
    tubes: list[tuple[Points, float]] = []
    for _ in range(int(rng.integers(3, 6))):
        end = np.array(at) + size * np.array([0.7 * side, 0.0]) + size * rng.normal(0, 0.35, 2)
        middle = 0.5 * (start + end) + size * rng.normal(0, 0.1, 2)
        tubes.append((curve([(*start,), (*middle,), (*end,)]), 0.015))
    return soften(lines(scene.frame, tubes), 0.7)


def paint_atelectasis(scene: Scene, rng: np.random.Generator) -> bool:
    """Collapsed plates: one to three thin dense bands in a lower or middle zone, one box a side."""
    done = False
    u, v = scene.frame.grid
    for side in SIDES if rng.random() < 0.22 else (rng.choice(SIDES),):
        zone = (side * u > 0.1) & (v > rng.choice([0.3, 0.55]))
        at = place(scene, rng, radius=0.1, region=np.asarray(zone))
        if at is None:
            continue
        slope = rng.normal(0, 0.32)
        half = rng.uniform(0.22, 0.4)
        plates: list[tuple[Points, float]] = []
        for k in range(int(rng.integers(1, 4))):
            shift = np.array([rng.normal(0, 0.05), 0.062 * k])
            bow = rng.normal(0, 0.02)
            ends = [(-half, slope * half), (0.0, bow), (half * rng.uniform(0.6, 1.0), -slope * half)]
            points = [(at[0] + x + shift[0], at[1] + 0.6 * y + shift[1]) for x, y in ends]
            plates.append((curve(points), rng.uniform(0.05, 0.1)))
        band = bands(scene.frame, plates) * scene.free
        mask = (band > 0.5) & scene.free
        if scene.record("Atelectasis", mask, min_px=4):
            dense = soften(band, 0.01 * scene.frame.half_width_px) * rng.uniform(0.55, 0.85)
            halo = soften(band, 0.07 * scene.frame.half_width_px) * 0.3
            scene.paint.density[:] = np.maximum(scene.paint.density, np.maximum(dense, halo))
            use_up(scene, mask)
            done = True
    return done


def paint_lesion(scene: Scene, rng: np.random.Generator) -> bool:
    """Nodules and masses: round, sharp, one to three, each with its box."""
    done = False
    for _ in range(int(rng.choice([1, 2, 3], p=[0.66, 0.22, 0.12]))):
        radius = float(np.exp(rng.uniform(np.log(0.1), np.log(0.26))))
        at = place(scene, rng, radius=0.8 * radius, region=everywhere(scene))
        if at is None:
            continue
        aspect = scene.anatomy.body.aspect
        u, v = scene.frame.grid
        distance = np.hypot(u - at[0], (v - at[1]) * aspect)
        lobes = 1 + rng.uniform(0.02, 0.09) * cloud(rng, scene.frame, size=0.7 * radius)
        depth = 1 - (distance / (radius * lobes)) ** 2
        # a ball's thickness, with a floor so that its edge shows
        ball = np.sqrt(np.clip(depth, 0, 1)) * 0.65 + 0.35 * ramp(depth / 0.25)
        mask = (depth > 0.05) & scene.seen()
        if scene.record("Lung Lesion", mask, min_px=5):
            strength = rng.uniform(0.5, 0.72)
            ball = soften(np.asarray(ball, dtype=np.float32), 0.6) * strength
            scene.paint.density[:] = np.maximum(scene.paint.density, ball)
            use_up(scene, mask)
            done = True
    return done


def paint_haze(scene: Scene, rng: np.random.Generator) -> bool:
    """Patchy grey haze through which vessels can still be seen, with a fine net; one to three places."""
    done = False
    for _ in range(int(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))):
        size = rng.uniform(0.32, 0.58)
        at = place(scene, rng, radius=0.4 * size, region=everywhere(scene))
        if at is None:
            continue
        patch = blob(scene, rng, at=at, radii=(size, size * rng.uniform(0.65, 1.0)), rough=0.2)
        net = np.abs(cloud(rng, scene.frame, size=0.045))
        mask = (patch > 0.5) & scene.free
        if scene.record("Lung Opacity", mask, min_px=10):
            veil = rng.uniform(0.27, 0.42) * patch * (0.65 + 0.4 * net) * scene.free
            grey = soften(np.asarray(veil, dtype=np.float32), 0.008 * scene.frame.half_width_px)
            scene.paint.density[:] = np.maximum(scene.paint.density, np.clip(grey, 0, 0.8))
            use_up(scene, mask)
            done = True
    return done


def paint_edema(scene: Scene, rng: np.random.Generator) -> bool:
    """Congestion: a grey butterfly around both hila, thick vessels, short lines at the walls."""
    done = False
    u, _ = scene.frame.grid
    strength = rng.uniform(0.35, 0.55)
    for side in SIDES:
        at = (side * rng.uniform(0.3, 0.38) + scene.anatomy.turn, rng.uniform(0.5, 0.6))
        patch = blob(scene, rng, at=at, radii=(rng.uniform(0.34, 0.45), rng.uniform(0.3, 0.38)), rough=0.12)
        patch = patch * (side * (u - scene.anatomy.turn) > 0.0)
        streaks = 0.75 + 0.3 * np.abs(cloud(rng, scene.frame, size=0.06))
        mask = (patch > 0.5) & scene.free
        if scene.record("Edema", mask, min_px=10):
            grey = np.clip(strength * patch * streaks, 0, 0.8) * (scene.lung(side) > 0)
            scene.paint.density[:] = np.maximum(scene.paint.density, grey * (1 - scene.paint.free_air))
            use_up(scene, mask)
            done = True
    return done


def note_heart(scene: Scene) -> None:
    """Cardiomegaly is the body's own: its box is the heart's extent."""
    _record_outline(scene, "Cardiomegaly", scene.anatomy.heart_outline)


def note_aorta(scene: Scene) -> None:
    """Aortic enlargement is the body's own: its box is the knob's extent."""
    _record_outline(scene, "Aortic Enlargement", scene.anatomy.knob_outline)


def _record_outline(scene: Scene, finding: str, xy: Points) -> None:
    h, w = scene.frame.size_hw
    low = np.clip(xy.min(axis=0), 0, (w, h))
    high = np.clip(xy.max(axis=0), 0, (w, h))
    scene.found.append((finding, (float(low[0]), float(low[1]), float(high[0]), float(high[1]))))


PAINTERS: dict[str, Callable[[Scene, np.random.Generator], bool]] = {
    "Pleural Effusion": paint_effusion,
    "Pneumothorax": paint_pneumothorax,
    "Edema": paint_edema,
    "Consolidation": paint_consolidation,
    "Lung Lesion": paint_lesion,
    "Atelectasis": paint_atelectasis,
    "Lung Opacity": paint_haze,
}
"""In rendering order: findings with a fixed place come first. Each returns whether it is visible."""

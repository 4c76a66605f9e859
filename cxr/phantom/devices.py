"""Lines, tubes and pacemakers. They occur with findings, but are not findings and have no boxes."""

import numpy as np

from cxr.phantom.canvas import Points, curve, ellipse, fill_px, lines, soften
from cxr.phantom.scene import Scene

Curves = list[tuple[Points, float]]


def paint_devices(scene: Scene, rng: np.random.Generator, findings: set[str]) -> None:
    """Render one to three devices; the findings determine which."""
    kinds = {"central": 0.6, "tube": 0.35, "leads": 0.4}
    if "Cardiomegaly" in findings:
        kinds["pacemaker"] = 0.6
    if findings & {"Pneumothorax", "Pleural Effusion"} and scene.side:
        kinds["drain"] = 0.6
    chosen = {kind for kind, chance in kinds.items() if rng.random() < chance} or {"central"}
    wires: Curves = []
    if "central" in chosen:
        wires += _central(scene, rng)
    if "tube" in chosen:
        wires += _tube(scene, rng)
    if "drain" in chosen:
        wires += _drain(scene, rng)
    if "pacemaker" in chosen:
        wires += _pacemaker(scene, rng)
    if "leads" in chosen:
        wires += _leads(scene, rng)
    layer = soften(lines(scene.frame, wires), 0.5)
    scene.paint.added += rng.uniform(0.22, 0.35) * layer


def _central(scene: Scene, rng: np.random.Generator) -> Curves:
    """A catheter from a collar bone or the neck down to the upper vena cava."""
    t = scene.anatomy.turn
    tip = (t - 0.12, rng.uniform(0.42, 0.55))
    if rng.random() < 0.5:
        start = (t - rng.uniform(0.2, 0.3), -0.4)
        return [(curve([start, (t - 0.2, 0.0), (t - 0.14, 0.25), tip]), 0.016)]
    side = rng.choice([-1, 1])
    start = (side * rng.uniform(0.8, 1.1), rng.uniform(0.05, 0.2))
    return [(curve([start, (side * 0.5, 0.06), (t + side * 0.12, 0.14), (t - 0.1, 0.28), tip]), 0.016)]


def _tube(scene: Scene, rng: np.random.Generator) -> Curves:
    """A breathing tube: two parallel walls in the windpipe."""
    t, end = scene.anatomy.turn, rng.uniform(0.12, 0.3)
    wall = [(t + 0.01, -0.6), (t, -0.2), (t, end)]
    return [(curve([(u + d, v) for u, v in wall]), 0.012) for d in (-0.035, 0.035)]


def _drain(scene: Scene, rng: np.random.Generator) -> Curves:
    """A chest drain from the wall of the affected side upwards."""
    s = scene.side
    low, high = rng.uniform(0.65, 0.85), rng.uniform(0.15, 0.4)
    path = [(1.25 * s, low + 0.1), (0.98 * s, low), (0.8 * s, 0.5 * (low + high)), (0.6 * s, high)]
    return [(curve(path), 0.028)]


def _pacemaker(scene: Scene, rng: np.random.Generator) -> Curves:
    """A metal box under a collar bone with a lead into the right ventricle."""
    frame, t = scene.frame, scene.anatomy.turn
    side = rng.choice([1, 1, 1, -1])
    at = (side * rng.uniform(0.66, 0.82), rng.uniform(0.14, 0.24))
    can = np.zeros(frame.size_hw, dtype=np.uint8)
    fill_px(can, frame.to_px(ellipse(at, (0.15, 0.085), angle=rng.uniform(-0.4, 0.4))))
    scene.paint.added += 0.42 * soften(can.astype(np.float32) / np.float32(255), 0.6)
    tip = (t + 0.5 * scene.anatomy.body.heart_left, 0.9)
    path = [at, (side * 0.45, 0.08), (t + 0.05 * side, 0.16), (t - 0.14, 0.4), (t - 0.1, 0.7), tip]
    return [(curve(path), 0.018)]


def _leads(scene: Scene, rng: np.random.Generator) -> Curves:
    """Monitor electrodes and their cables on the skin."""
    frame = scene.frame
    wires: Curves = []
    for _ in range(int(rng.integers(2, 5))):
        spot = (rng.uniform(-0.95, 0.95), rng.uniform(0.0, 1.15))
        disc = np.zeros(frame.size_hw, dtype=np.uint8)
        ring = ellipse(spot, (0.04, 0.04 / scene.anatomy.body.aspect))
        fill_px(disc, frame.to_px(ring))
        scene.paint.added += 0.16 * disc.astype(np.float32) / np.float32(255)
        end = (spot[0] + rng.normal(0.0, 0.3), 1.7)
        middle = (spot[0] + rng.normal(0.0, 0.15), 0.5 * (spot[1] + 1.7))
        wires.append((curve([spot, middle, end]), 0.012))
    return wires

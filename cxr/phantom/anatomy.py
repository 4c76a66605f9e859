"""The phantom's frontal anatomy: one body's build, and the layers of the image that it produces.

A radiograph shows how much matter lies on each ray. So everything here adds matter, or (lungs,
windpipe, stomach) removes some, in units of the soft tissue through the middle of the chest.
Proportions follow what adult radiographs look like (a heart of .38-.47 of the chest's width, a
right diaphragm a little higher than the left one, ...).
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from cxr.phantom.canvas import SIDES, Frame, Layer, Points, bands, cloud, curve, ellipse, shape, soften
from cxr.phantom.vessels import vessels


@dataclass(frozen=True)
class Body:
    """A patient's build, the same in every picture of the patient (lengths as in Frame)."""

    female: bool
    fat: float
    """0 slim .. 1 obese: wider soft tissue, less contrast."""
    heart_right: float
    heart_left: float
    """How far the heart reaches from the middle, to the picture's left and right."""
    heart_top: float
    knob: float
    """Radius of the aortic knob."""
    dome: tuple[float, float]
    """v of the two diaphragm domes, in the order of SIDES."""
    shoulder: float
    rib_step: float
    rib_drop: float
    bone: float
    """Density of the bones, about 1."""
    aspect: float
    """Lung height over half chest width."""


def sample_body(rng: np.random.Generator, *, female: bool, age: float) -> Body:
    """Sample a normal build. Old bones are thinner, old aortas wider."""
    dome = 0.96 + rng.uniform(-0.05, 0.05)
    ratio = rng.uniform(0.78, 0.96)
    right = rng.uniform(0.27, 0.36)
    return Body(
        female=female,
        fat=float(rng.beta(1.6, 2.6)),
        heart_right=ratio * right,
        heart_left=ratio * (1 - right),
        heart_top=rng.uniform(0.46, 0.54),
        knob=rng.uniform(0.075, 0.1) + 0.0003 * (age - 50),
        dome=(dome - rng.uniform(0.02, 0.07), dome + rng.uniform(-0.01, 0.03)),
        shoulder=rng.uniform(-0.06, 0.06),
        rib_step=rng.uniform(0.098, 0.115),
        rib_drop=rng.uniform(0.1, 0.22),
        bone=rng.uniform(0.85, 1.15) - 0.003 * (age - 50),
        aspect=rng.uniform(1.42, 1.78) * (0.95 if female else 1.0),
    )


def with_big_heart(body: Body, rng: np.random.Generator) -> Body:
    """The same body with cardiomegaly: .57-.72 of the chest's width."""
    ratio = rng.uniform(1.14, 1.42)
    right = rng.uniform(0.27, 0.36)
    top = body.heart_top - rng.uniform(0.0, 0.05)
    return replace(body, heart_right=ratio * right, heart_left=ratio * (1 - right), heart_top=top)


def with_wide_aorta(body: Body, rng: np.random.Generator) -> Body:
    """The same body with an enlarged aortic knob."""
    return replace(body, knob=rng.uniform(0.16, 0.22))


@dataclass(frozen=True)
class Anatomy:
    """The layers that findings are painted on and that `compose` sums up."""

    frame: Frame
    body: Body
    turn: float
    """How far the middle structures are shifted because the patient is rotated."""
    tissue: Layer
    """Matter without the lungs and bones."""
    lungs: tuple[Layer, Layer]
    """Where each lung lies, in the order of SIDES, hidden parts included."""
    heart: Layer
    middle: Layer
    """Mediastinum without the heart."""
    bones: Layer
    vessels: Layer
    heart_outline: Points
    """Pixels."""
    knob_outline: Points


def lung_outline(body: Body, side: int) -> Points:
    """Outline of one lung in body coordinates."""
    d = body.dome[0 if side < 0 else 1]
    points = [
        (0.17, 0.11), (0.25, 0.03), (0.39, -0.01), (0.55, 0.04), (0.71, 0.18), (0.85, 0.41),
        (0.94, 0.67), (0.99, 0.9), (0.985, d + 0.12), (0.965, d + 0.15), (0.9, d + 0.085),
        (0.74, d + 0.02), (0.55, d - 0.005), (0.36, d), (0.2, d + 0.035), (0.1, d + 0.05),
        (0.09, 0.75), (0.09, 0.5), (0.11, 0.3),
    ]  # fmt: skip
    return curve([(side * u, v) for u, v in points], closed=True)


def _heart_outline(body: Body, turn: float) -> Points:
    r, left, top = body.heart_right, body.heart_left, body.heart_top
    base = max(body.dome) + 0.035
    points = [
        (-0.18, top), (-0.9 * r, top + 0.12), (-r, top + 0.26), (-0.88 * r, base - 0.07),
        (-0.4 * r, base), (0.4 * left, base + 0.03), (0.84 * left, base + 0.01),
        (left, base - 0.07), (0.97 * left, base - 0.17), (0.8 * left, top + 0.2),
        (0.24 + 0.22 * left, top + 0.06), (0.25, top - 0.04), (0.12, top - 0.08), (-0.1, top - 0.06),
    ]  # fmt: skip
    return curve([(u + turn, v) for u, v in points], closed=True)


def _silhouette(frame: Frame, body: Body) -> Layer:
    """Trunk, neck and upper arms, as thick in the middle as 1 and falling off to the skin."""
    wide = 1.0 + 0.22 * body.fat
    s = body.shoulder
    half = [
        (0.36, -0.8), (0.37, -0.42), (0.47, -0.27), (0.75, -0.17 + s), (1.1, -0.13 + s),
        (1.42 * wide, -0.04 + s), (1.62 * wide, 0.18 + s), (1.5 * wide, 0.42), (1.22 * wide, 0.5),
        (1.15 * wide, 0.7), (1.13 * wide, 1.0), (1.14 * wide, 1.4), (1.16 * wide, 2.0),
    ]  # fmt: skip
    outline = np.vstack([curve(half), curve([(-u, v) for u, v in half])[::-1]])
    trunk = shape(frame, outline, blur=0.012)
    arms = bands(frame, [(_arm(side, wide, s), 0.34 + 0.12 * body.fat) for side in SIDES])
    solid = np.maximum(trunk, 0.9 * soften(arms, 0.02 * frame.half_width_px))
    depth = soften(solid, 0.16 * frame.half_width_px)
    return np.asarray(solid * (0.28 + 0.72 * depth**1.6), dtype=np.float32)


def _arm(side: int, wide: float, shoulder: float) -> Points:
    points = [(1.4, 0.1 + shoulder), (1.62, 0.45 + shoulder), (1.72, 1.0), (1.75, 1.8)]
    return curve([(side * u * wide, v) for u, v in points])


def _breasts(frame: Frame, body: Body, rng: np.random.Generator) -> Layer:
    layer = frame.empty()
    if not body.female:
        return layer
    low = rng.uniform(0.86, 1.02)
    size = rng.uniform(0.3, 0.42) + 0.06 * body.fat
    for side in SIDES:
        spot = (side * (0.6 + rng.uniform(-0.03, 0.05)), low - 0.1)
        disc = shape(frame, ellipse(spot, (size, size / body.aspect * 1.1)), blur=0.015)
        _, v = frame.grid
        layer += disc * np.clip(0.15 + 1.6 * (v - low + 0.28), 0, 1)
    return layer


def _ribs(frame: Frame, body: Body) -> Layer:
    back: list[tuple[Points, float]] = []
    front: list[tuple[Points, float]] = []
    t = np.linspace(0, 1, 24)
    for i in range(10):
        start = -0.055 + body.rib_step * i
        wall = 1.03 * math.sin(min(1.0, 0.47 + 0.115 * i) * math.pi / 2)
        drop = body.rib_drop + 0.012 * i
        v = start - 0.05 * np.sin(np.pi * np.minimum(1.0, t * 1.5)) + drop * t**2.2
        u = 0.08 + (wall - 0.08) * np.sin(t * np.pi / 2) ** 0.85
        fall = start + drop + (0.14 + 0.01 * i) * t
        inward = wall - (wall - 0.34 - 0.01 * i) * t**1.5
        for side in SIDES:
            back.append((np.stack([side * u, v], axis=1), 0.062 + 0.001 * i))
            if i < 7:
                front.append((np.stack([side * inward, fall], axis=1), 0.07))
    fuzz = 0.006 * frame.half_width_px
    behind = soften(bands(frame, back, core=0.4), fuzz)
    before = soften(bands(frame, front, core=0.3), 1.6 * fuzz)
    return np.asarray(0.15 * behind + 0.085 * before, dtype=np.float32)


def _shoulder_girdle(frame: Frame, body: Body, turn: float) -> Layer:
    s = body.shoulder
    long_bones: list[tuple[Points, float]] = []
    blades = frame.empty()
    for side in SIDES:
        inner = (side * 0.1 + 1.5 * turn, 0.11 + 0.3 * s)
        collar = [inner, (side * 0.42, 0.08 + s), (side * 0.75, 0.0 + s), (side * 1.12, -0.05 + s)]
        long_bones.append((curve(collar), 0.085))
        arm = [(side * 1.4, 0.03 + s), (side * 1.5, 0.3 + s), (side * 1.62, 1.0)]
        long_bones.append((curve(arm), 0.16))
        blade = [(0.98, 0.02), (1.22, 0.0), (1.25, 0.12), (1.08, 0.4), (0.98, 0.56), (0.86, 0.3)]
        outline = curve([(side * u, v + s) for u, v in blade], closed=True)
        blades += shape(frame, outline, blur=0.01)
        blades += 0.9 * shape(frame, ellipse((side * 1.36, 0.02 + s), (0.14, 0.09)), blur=0.01)
    bones = soften(bands(frame, long_bones, core=0.35), 0.008 * frame.half_width_px)
    return np.asarray(0.16 * bones + 0.06 * blades, dtype=np.float32)


def _spine(frame: Frame, turn: float, rng: np.random.Generator) -> Layer:
    u, v = frame.grid
    bend = 0.02 * rng.standard_normal() * np.sin(2.5 * v + rng.uniform(0, 6)) + 0.4 * turn
    phase = (v * rng.uniform(10.2, 11.6) + rng.uniform(0, 1)) % 1.0
    inside = 0.5 - 0.5 * np.tanh((np.abs(u - bend) - 0.115) / 0.024)
    disc = np.exp(-(((phase - 0.5) / 0.13) ** 2))
    pedicles = np.exp(-(((np.abs(u - bend) - 0.07) / 0.022) ** 2 + ((phase - 0.05) / 0.16) ** 2))
    process = np.exp(-((u - bend) ** 2) / 0.0006 - ((phase - 0.85) / 0.2) ** 2)
    layer = inside * (0.13 - 0.06 * disc) + 0.05 * pedicles + 0.05 * process
    return np.asarray(layer, dtype=np.float32)


def _middle(frame: Frame, body: Body, turn: float) -> tuple[Layer, Points]:
    """Mediastinum (without heart) and the outline of the aortic knob in pixels."""
    top = [(-0.2, -0.25), (-0.17, 0.1), (-0.19, 0.3), (-0.17, 0.5), (-0.15, 1.1)]
    other = [(0.17, 1.1), (0.17, 0.5), (0.2, 0.38), (0.17, 0.1), (0.2, -0.25)]
    outline = np.vstack([curve(top), curve(other)]) + np.array([turn, 0.0])
    knob = ellipse((0.13 + 0.75 * body.knob + turn, 0.27), (body.knob, body.knob / body.aspect * 1.2))
    layer = np.maximum(shape(frame, outline, blur=0.02), shape(frame, knob, blur=0.014))
    descending = [(0.13 + body.knob, 0.3), (0.15 + body.knob * 0.6, 0.5), (0.12, 0.9)]
    aorta = bands(frame, [(curve([(u + turn, v) for u, v in descending]), 0.16)])
    layer = np.maximum(layer, 0.7 * soften(aorta, 0.02 * frame.half_width_px))
    return layer, frame.to_px(knob)


def _airway(frame: Frame, turn: float) -> Layer:
    pipe = curve([(turn, -0.6), (1.2 * turn, 0.0), (turn - 0.01, 0.37)])
    right = curve([(turn - 0.01, 0.36), (turn - 0.12, 0.45), (turn - 0.22, 0.52)])
    left = curve([(turn - 0.01, 0.36), (turn + 0.15, 0.45), (turn + 0.26, 0.5)])
    layer = bands(frame, [(pipe, 0.1), (right, 0.075), (left, 0.065)])
    return soften(layer, 0.012 * frame.half_width_px)


def _abdomen(frame: Frame, body: Body, rng: np.random.Generator) -> Layer:
    """Liver and stomach: what lies below the domes; the stomach's gas may be negative."""
    _, v = frame.grid
    layer = 0.16 * np.clip((v - min(body.dome)) / 0.25, 0, 1)
    if rng.random() < 0.7:
        spot = (rng.uniform(0.35, 0.65), body.dome[1] + rng.uniform(0.11, 0.16))
        gas = ellipse(spot, (rng.uniform(0.1, 0.22), rng.uniform(0.04, 0.08)), angle=rng.uniform(-0.3, 0.3))
        layer -= rng.uniform(0.12, 0.3) * shape(frame, gas, blur=0.025)
    return np.asarray(layer, dtype=np.float32)


def frontal(frame: Frame, body: Body, *, turn: float, rng: np.random.Generator) -> Anatomy:
    """Cast a body's frontal layers into a frame."""
    silhouette = _silhouette(frame, body)
    heart_uv = _heart_outline(body, turn)
    middle, knob_px = _middle(frame, body, turn)
    tissue = silhouette * (1 + 0.04 * cloud(rng, frame, size=0.5))
    tissue += 0.07 * _breasts(frame, body, rng) + silhouette * _abdomen(frame, body, rng)
    tissue -= 0.1 * _airway(frame, turn)
    bones = _ribs(frame, body) + _shoulder_girdle(frame, body, turn) + _spine(frame, turn, rng)
    lungs = [shape(frame, lung_outline(body, side), blur=0.012) for side in SIDES]
    return Anatomy(
        frame=frame,
        body=body,
        turn=turn,
        tissue=np.asarray(tissue, dtype=np.float32),
        lungs=(lungs[0], lungs[1]),
        heart=shape(frame, heart_uv, blur=0.014),
        middle=middle,
        bones=np.asarray(body.bone * bones * np.minimum(1, 2 * silhouette), dtype=np.float32),
        vessels=vessels(frame, turn, rng),
        heart_outline=frame.to_px(heart_uv),
        knob_outline=knob_px,
    )

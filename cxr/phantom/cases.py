"""Whole cases of the phantom: the patient, the findings and the rendered image."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cxr.phantom.anatomy import Body, frontal, sample_body, with_big_heart, with_wide_aorta
from cxr.phantom.canvas import Frame, Layer
from cxr.phantom.devices import paint_devices
from cxr.phantom.findings import DENSE_FINDINGS, PAINTERS, note_aorta, note_heart
from cxr.phantom.lateral import lateral
from cxr.phantom.picture import Exposure, compose, develop, mark
from cxr.phantom.scene import Box, start_scene

SHARE_OF_ABNORMAL = {
    "Cardiomegaly": 0.3,
    "Aortic Enlargement": 0.12,
    "Pleural Effusion": 0.3,
    "Pneumothorax": 0.22,
    "Edema": 0.07,
    "Consolidation": 0.27,
    "Lung Lesion": 0.27,
    "Atelectasis": 0.24,
    "Lung Opacity": 0.22,
}
"""Probability of each finding in a patient who is not normal, before the increases below."""

COMPANY = {
    ("Cardiomegaly", "Pleural Effusion"): 0.18,
    ("Cardiomegaly", "Edema"): 0.2,
    ("Pleural Effusion", "Atelectasis"): 0.2,
    ("Pleural Effusion", "Consolidation"): 0.1,
    ("Cardiomegaly", "Aortic Enlargement"): 0.1,
}
"""(first, second): additional probability of the second finding if the first is present."""


@dataclass(frozen=True)
class Patient:
    """A patient: the same person in all studies."""

    female: bool
    age: int
    body: Body


@dataclass(frozen=True)
class Hospital:
    """The image style of a hospital. Pairs are the ends of uniform ranges."""

    sizes_hw: tuple[tuple[int, int], ...]
    zoom: tuple[float, float]
    """Half chest width divided by the image's shorter side."""
    shift: float
    """Standard deviation of the chest's centre, as a share of the image side."""
    tilt_rad: float
    turn: float
    low: tuple[float, float]
    high: tuple[float, float]
    gamma: tuple[float, float]
    noise: tuple[float, float]
    scatter: tuple[float, float]
    equalise: tuple[float, float]


BEDSIDE = Hospital(
    sizes_hw=((390, 320), (320, 390), (320, 384), (375, 320), (320, 320), (320, 350), (365, 320)),
    zoom=(0.33, 0.43),
    shift=0.035,
    tilt_rad=0.045,
    turn=0.035,
    low=(0.1, 0.24),
    high=(1.18, 1.42),
    gamma=(0.75, 1.1),
    noise=(0.012, 0.035),
    scatter=(0.05, 0.25),
    equalise=(0.2, 0.9),
)
"""The CheXpert part: many bedside pictures, strongly processed, 320 to 390 px."""

SCREENING = Hospital(
    sizes_hw=((512, 432), (480, 480), (448, 512), (576, 480), (400, 464), (640, 528), (440, 400)),
    zoom=(0.31, 0.395),
    shift=0.02,
    tilt_rad=0.02,
    turn=0.018,
    low=(0.14, 0.32),
    high=(1.25, 1.6),
    gamma=(0.95, 1.35),
    noise=(0.006, 0.018),
    scatter=(0.02, 0.12),
    equalise=(0.0, 0.25),
)
"""The VinDr part: standing patients, smaller in the picture, darker and smoother, 400 to 640 px."""


@dataclass(frozen=True)
class RenderedCase:
    """A rendered image and its ground truth."""

    picture: Layer
    """(H, W) float32 in [0, 1], bone bright."""
    boxes: tuple[tuple[str, Box], ...]
    """(canonical finding, xyxy in pixels); only what can be seen. A dense finding's box is
    repeated as `Lung Opacity`."""
    findings: frozenset[str]
    """Positive findings, including parents, `Support Devices` and `No Finding`."""
    frame: Frame
    """Where the body lies in the picture."""


def sample_patient(rng: np.random.Generator) -> Patient:
    """Sample a patient of 20 to 90 years."""
    female = bool(rng.random() < 0.45)
    age = int(np.clip(rng.normal(58, 16), 20, 90))
    return Patient(female, age, sample_body(rng, female=female, age=age))


def sample_findings(
    rng: np.random.Generator, *, normal_share: float, shares: Mapping[str, float] | None = None
) -> frozenset[str]:
    """Sample the findings that a study should show; some may not fit into the image.

    shares: in place of those of `SHARE_OF_ABNORMAL`.
    """
    if rng.random() < normal_share:
        chosen = set[str]()
    else:
        own = shares or {}
        chances = SHARE_OF_ABNORMAL | dict(own)
        chosen = {name for name, chance in chances.items() if rng.random() < chance}
        # a finding with a share of its own must not become frequent because the study has no other
        chosen |= {str(rng.choice([name for name in chances if name not in own]))} if not chosen else set()
        chosen |= {b for (a, b), p in COMPANY.items() if a in chosen and rng.random() < p}
    device_chance = 0.1 + 0.12 * len(chosen) + 0.25 * ("Pneumothorax" in chosen)
    if rng.random() < device_chance:
        chosen.add("Support Devices")
    return frozenset(chosen)


def render_frontal(
    patient: Patient, wanted: frozenset[str], hospital: Hospital, *, rng: np.random.Generator
) -> RenderedCase:
    """Render a frontal view. A wanted finding that does not fit is absent from image, boxes and labels."""
    body = patient.body
    if "Cardiomegaly" in wanted:
        body = with_big_heart(body, rng)
    if "Aortic Enlargement" in wanted:
        body = with_wide_aorta(body, rng)
    frame = _frame(body, hospital, rng)
    anatomy = frontal(frame, body, turn=float(rng.normal(0, hospital.turn)), rng=rng)
    scene = start_scene(anatomy)
    if "Cardiomegaly" in wanted:
        note_heart(scene)
    if "Aortic Enlargement" in wanted:
        note_aorta(scene)
    for finding, paint in PAINTERS.items():
        if finding in wanted:
            paint(scene, rng)
    if "Support Devices" in wanted:
        paint_devices(scene, rng, {name for name, _ in scene.found})
    matter = compose(anatomy, scene.paint, rng)
    picture = _develop(matter, hospital, frame=frame, rng=rng)
    found = list(scene.found)
    found += [("Lung Opacity", box) for name, box in scene.found if name in DENSE_FINDINGS]
    return RenderedCase(picture, tuple(found), _true_findings(found, wanted, rng), frame)


def render_lateral(
    patient: Patient, findings: frozenset[str], hospital: Hospital, *, rng: np.random.Generator
) -> Layer:
    """Render the lateral view that belongs to a frontal view's findings, (H, W) in [0, 1]."""
    body = with_big_heart(patient.body, rng) if "Cardiomegaly" in findings else patient.body
    frame = _frame(body, hospital, rng)
    return _develop(lateral(frame, body, findings=findings, rng=rng), hospital, frame=frame, rng=rng)


def _true_findings(found: list[tuple[str, Box]], wanted: frozenset[str], rng: np.random.Generator) -> frozenset[str]:
    names = {name for name, _ in found}
    if names & {"Cardiomegaly", "Aortic Enlargement"}:
        names.add("Enlarged Cardiomediastinum")
    if "Consolidation" in names and rng.random() < 0.55:
        names.add("Pneumonia")
    if not names:
        names.add("No Finding")
    return frozenset(names | (wanted & {"Support Devices"}))


def _frame(body: Body, hospital: Hospital, rng: np.random.Generator) -> Frame:
    h, w = hospital.sizes_hw[int(rng.integers(len(hospital.sizes_hw)))]
    half = rng.uniform(*hospital.zoom) * min(h, w)
    tall = min(half * body.aspect, rng.uniform(0.66, 0.74) * h)
    x = w * (0.5 + np.clip(rng.normal(0, hospital.shift), -0.07, 0.07))
    y = h * (0.5 + np.clip(rng.normal(0, hospital.shift), -0.06, 0.06))
    tilt = float(rng.normal(0, hospital.tilt_rad))
    return Frame((h, w), (float(x), float(y)), float(half), float(tall), tilt)


def _develop(matter: Layer, hospital: Hospital, *, frame: Frame, rng: np.random.Generator) -> Layer:
    exposure = Exposure(
        low=rng.uniform(*hospital.low),
        high=rng.uniform(*hospital.high),
        gamma=rng.uniform(*hospital.gamma),
        scatter=rng.uniform(*hospital.scatter),
        noise=rng.uniform(*hospital.noise),
        blur_px=rng.uniform(0.3, 0.6),
        equalise=rng.uniform(*hospital.equalise),
    )
    picture = develop(matter, exposure, scale_px=frame.half_width_px, rng=rng)
    mark(picture, rng)
    return picture

"""Labels mined from reports and the boxes of three readers, simulated from the phantom's ground truth."""

from collections.abc import Sequence

import numpy as np

from cxr.labels import CHEXPERT_FINDINGS, NO_FINDING, VINDR_NAMES
from cxr.phantom.scene import Box

LEAVES = (
    "Cardiomegaly",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
)
"""CheXpert findings that a report mentions in their own right."""

PARENTS = {
    "Enlarged Cardiomediastinum": ("Cardiomegaly",),
    "Lung Opacity": ("Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis"),
}

UNCERTAIN = {
    "Cardiomegaly": 0.12,
    "Lung Opacity": 0.04,
    "Lung Lesion": 0.08,
    "Edema": 0.2,
    "Consolidation": 0.25,
    "Pneumonia": 0.45,
    "Atelectasis": 0.25,
    "Pneumothorax": 0.07,
    "Pleural Effusion": 0.08,
}
"""How often a finding that is there is called possible. It differs by class as in CheXpert, where for
each certain Pneumonia there are three uncertain ones, and for each certain Effusion one eighth."""

FALSE_ALARM = 0.2
"""Share of `label_noise` for false reports; lower because absent findings are far more frequent."""

ABSENT_UNCERTAIN = 0.12
"""An absent finding is called possible at this fraction of the rate above."""

ABSENT_MENTIONED = 0.18
"""An absent finding is mentioned as absent (0.0) this often, else the cell is blank."""


def clean_labels(findings: frozenset[str]) -> list[float]:
    """The 14 CheXpert labels of the truth, 1 or 0."""
    return [float(name in findings) for name in CHEXPERT_FINDINGS]


def reported_labels(findings: frozenset[str], *, label_noise: float, rng: np.random.Generator) -> list[float | None]:
    """The 14 CheXpert labels as mined from a report: 1, 0, -1 (uncertain), None (not mentioned).

    A finding that is there is overlooked with probability `label_noise`; one that is not there is
    reported with probability `label_noise * FALSE_ALARM`. What remains may be called uncertain.
    """
    labels: dict[str, float | None] = dict.fromkeys(CHEXPERT_FINDINGS)
    for name in (*LEAVES, "Support Devices"):
        labels[name] = _report(name, name in findings, label_noise=label_noise, rng=rng)
    for parent, children in PARENTS.items():
        is_mentioned = parent in findings and rng.random() >= label_noise
        is_mentioned = is_mentioned and (not any(child in findings for child in children) or rng.random() < 0.9)
        if is_mentioned or any(labels[child] == 1 for child in children if rng.random() < 0.9):
            sure = rng.random() >= UNCERTAIN.get(parent, 0.05)
            labels[parent] = 1.0 if sure else -1.0
    others = (labels[name] for name in CHEXPERT_FINDINGS if name not in (NO_FINDING, "Support Devices"))
    if not any(value in (1.0, -1.0) for value in others):
        labels[NO_FINDING] = 1.0
    return list(labels.values())


def _report(name: str, present: bool, *, label_noise: float, rng: np.random.Generator) -> float | None:
    """The label of one finding in a report."""
    flip, doubt, mention = rng.random(3)
    uncertain = UNCERTAIN.get(name, 0.0)
    if present and flip >= label_noise:
        return -1.0 if doubt < uncertain else 1.0
    if not present and flip < label_noise * FALSE_ALARM:
        return 1.0
    if not present and doubt < ABSENT_UNCERTAIN * uncertain:
        return -1.0
    return 0.0 if mention < ABSENT_MENTIONED else None


VINDR_SPELLING = {ours: theirs for theirs, ours in VINDR_NAMES.items() if theirs != "Other diseases"}
"""Canonical finding -> VinDr-CXR's own name."""

MISSED = {"Lung Lesion": 0.15, "Lung Opacity": 0.25, "Atelectasis": 0.2, "Edema": 0.2}
"""How often one reader overlooks or does not name a finding; 0.08 for all others."""

NUM_READERS = 17

Mark = tuple[str, Box]


def readers_of(rng: np.random.Generator) -> list[str]:
    """The three readers of an image, among R1 .. R17."""
    chosen = rng.choice(NUM_READERS, size=3, replace=False) + 1
    return [f"R{number}" for number in chosen.tolist()]


def read_by(truth: Sequence[Mark], *, image_hw: tuple[int, int], rng: np.random.Generator) -> list[Mark]:
    """The boxes of one reader: slightly displaced, some overlooked, sometimes one too many."""
    marks: list[Mark] = []
    generous = 1 + rng.normal(0.03, 0.05)
    for finding, box in truth:
        side = min(box[2] - box[0], box[3] - box[1])
        missed = MISSED.get(finding, 0.08) + 0.15 * (side < 0.05 * min(image_hw))
        if rng.random() >= missed:
            marks.append((finding, _redrawn(box, generous, image_hw=image_hw, rng=rng)))
    if rng.random() < 0.07:
        marks.append(_imagined(image_hw, rng))
    return marks


def _redrawn(box: Box, generous: float, *, image_hw: tuple[int, int], rng: np.random.Generator) -> Box:
    x1, y1, x2, y2 = box
    w, h = x2 - x1, y2 - y1
    grow = 0.5 * (generous - 1)
    off = rng.normal(0, 0.05, 4)
    moved = (x1 - (grow + off[0]) * w, y1 - (grow + off[1]) * h, x2 + (grow + off[2]) * w, y2 + (grow + off[3]) * h)
    return _inside(moved, image_hw)


def _imagined(image_hw: tuple[int, int], rng: np.random.Generator) -> Mark:
    """A finding that is not there, somewhere in the middle of the picture."""
    h, w = image_hw
    finding = str(rng.choice(["Lung Opacity", "Lung Lesion", "Atelectasis", "Consolidation"]))
    size = rng.uniform(0.04, 0.18) * min(h, w)
    x, y = rng.uniform(0.2, 0.8) * w, rng.uniform(0.25, 0.7) * h
    return finding, _inside((x - size, y - 0.7 * size, x + size, y + 0.7 * size), image_hw)


def _inside(box: Box, image_hw: tuple[int, int]) -> Box:
    """Clipped to the image, rounded to whole pixels, at least 2 pixels wide and high."""
    h, w = image_hw
    x1, y1 = max(0, min(round(box[0]), w - 2)), max(0, min(round(box[1]), h - 2))
    x2, y2 = min(w, max(round(box[2]), x1 + 2)), min(h, max(round(box[3]), y1 + 2))
    return float(x1), float(y1), float(x2), float(y2)

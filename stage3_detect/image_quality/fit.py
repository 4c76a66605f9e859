"""Make a quality gate from good images, with simulated faults and examples of others."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from cxr.arrays import Floats
from cxr.config import UserError
from cxr.imaging.files import Pixels
from stage3_detect.image_quality.description import THUMBNAIL_PX, Description, describe, thumbnail_of
from stage3_detect.image_quality.faults import FAULTS
from stage3_detect.image_quality.gate import Reference
from stage3_detect.image_quality.rules import MIN_SIDE_PX, rule_codes

MIN_IMAGES = 60
"""With fewer good images no limit holds for 99 % of them."""
REFUSED_SHARE = 0.01
"""Share of good images above the limit. Fixed rules may refuse as many again, so that at most 2 % are refused."""
NUM_FOLDS = 5

_MAX_COMPONENTS, _IMAGES_PER_COMPONENT = 32, 10
_SHRINKAGE = 0.1
_REACH = 0.9
"""Share of the images with a fault that lie within its reach."""
_RULE_SHARE = 0.002
"""A fixed rule that more of the good images break is not used."""


@dataclass(frozen=True)
class GoodImages:
    """What is known of N good images, and of each with a simulated fault. Its pixels are not kept.

    sides_px: (N,) shorter sides. broken: the fixed rules that each breaks.
    """

    descriptions: tuple[Description, ...]
    faults: Mapping[str, tuple[Description, ...]]
    sides_px: tuple[int, ...]
    broken: tuple[tuple[str, ...], ...]


def describe_good(images: Iterable[Pixels], *, seed: int = 0) -> GoodImages:
    """Describe good images (H, W) one after the other, and each with every simulated fault."""
    rng = np.random.default_rng(seed)
    good: list[Description] = []
    faults: dict[str, list[Description]] = {name: [] for name in FAULTS}
    sides, broken = [], []
    for pixels in images:
        thumbnail = thumbnail_of(pixels)
        good.append(describe(thumbnail))
        sides.append(min(pixels.shape))
        broken.append(tuple(rule_codes(pixels, thumbnail)))
        reduced = _reduced(pixels)
        for name, fault in FAULTS.items():
            faults[name].append(describe(thumbnail_of(fault(reduced, rng))))
    simulated = {name: tuple(described) for name, described in faults.items()}
    return GoodImages(tuple(good), simulated, tuple(sides), tuple(broken))


def num_different(good: GoodImages) -> int:
    """Number of good images without copies: of equal images, every other one would be unlike."""
    return len({one.layout.tobytes() for one in good.descriptions})


def _reduced(pixels: Pixels) -> Pixels:
    """At most twice the thumbnail: a fault of a large image takes long, and the thumbnail would be nearly the same."""
    scale = min(1.0, 2 * THUMBNAIL_PX / max(pixels.shape))
    size_wh = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(cv2.resize(pixels, size_wh, interpolation=cv2.INTER_NEAREST))


def fit_gate(good: GoodImages, examples: Mapping[str, Sequence[Description]] | None = None) -> Reference:
    """The gate's reference.

    Args:
        examples: images with faults that cannot be simulated, by their reason.

    Raises:
        UserError: fewer than `MIN_IMAGES` different good images, or fewer than `NUM_FOLDS` examples of a reason.
    """
    if num_different(good) < MIN_IMAGES:
        raise UserError(
            f"quality gate: {num_different(good)} different good images, expected at least {MIN_IMAGES}; give more"
        )
    num = len(good.descriptions)
    for name, given in (examples or {}).items():
        if len(given) < NUM_FOLDS:
            raise UserError(f"quality gate: {len(given)} examples of {name}, expected at least {NUM_FOLDS}; give more")
    fold_of = np.arange(num) % NUM_FOLDS
    raw = np.empty((num, len(good.faults) + len(examples or {}) + 1))
    for fold in range(NUM_FOLDS):
        reference = _fit(good, examples or {}, fold_of != fold)
        for row in np.flatnonzero(fold_of == fold):
            raw[row] = reference.raw_scores(reference.vector(good.descriptions[row]))
    whole = _fit(good, examples or {}, np.ones(num, dtype=bool))
    centre = np.median(raw, axis=0)
    spread = _positive(np.quantile(raw, 0.95, axis=0) - centre)
    largest = np.sort(((raw - centre) / spread).max(axis=1))
    limit = largest[min(num, math.ceil((num + 1) * (1 - REFUSED_SHARE))) - 1]
    return replace(whole, centre=centre, spread=spread, limit=np.array(limit))


def _fit(good: GoodImages, examples: Mapping[str, Sequence[Description]], used: Any) -> Reference:
    """A reference without the scale of its scores. used: (N,) mask of the good images."""
    rows = np.flatnonzero(used)
    own = [good.descriptions[row] for row in rows]
    basis = _basis(own, good)
    whitening = _whitening(np.cov(_vectors(basis, own), rowvar=False))
    faults = {name: [described[row] for row in rows] for name, described in good.faults.items()} | dict(examples)
    vectors = {name: _vectors(basis, described) for name, described in faults.items()}
    groups = [_vectors(basis, own), *vectors.values()]
    pooled = _whitening(np.mean([np.cov(group, rowvar=False) for group in groups], axis=0))
    means = np.stack([group.mean(axis=0) for group in groups[1:]])
    apart = [np.linalg.norm((group - mean) @ pooled.T, axis=1) for group, mean in zip(groups[1:], means, strict=True)]
    reach = np.array([np.quantile(distances, _REACH) for distances in apart])
    reach = np.maximum(reach, np.median(reach))  # a few examples lie nearer to their mean than other images will
    return replace(
        basis, whitening=whitening, pooled=pooled, fault_means=means, fault_reach=reach, faults=np.array(list(faults))
    )


def _basis(own: Sequence[Description], good: GoodImages) -> Reference:
    """Principal components and scales of good images; nothing of faults and scores yet."""
    layouts = np.stack([one.layout for one in own])
    tones = np.stack([one.tone for one in own])
    num_components = min(_MAX_COMPONENTS, len(own) // _IMAGES_PER_COMPONENT)
    moved = layouts - layouts.mean(axis=0)
    _, singular, axes = np.linalg.svd(moved, full_matrices=False)
    axes = axes[:num_components]
    left = np.sqrt(np.maximum((moved**2).sum(axis=1) - ((moved @ axes.T) ** 2).sum(axis=1), 0))
    broken = [code for codes in good.broken for code in codes]
    ignored = [code for code in dict.fromkeys(broken) if broken.count(code) > _RULE_SHARE * len(good.broken)]
    none = np.zeros(0)
    return Reference(
        layout_mean=layouts.mean(axis=0),
        axes=axes,
        scales=_positive(singular[:num_components] / len(own) ** 0.5),
        rest=_positive(np.array([left.mean(), left.std()])),
        tone_mean=tones.mean(axis=0),
        tone_scale=_positive(tones.std(axis=0)),
        whitening=none,
        pooled=none,
        fault_means=none,
        fault_reach=none,
        centre=none,
        spread=none,
        limit=none,
        min_side_px=np.array(min(MIN_SIDE_PX, np.quantile(good.sides_px, _RULE_SHARE))),
        num_images=np.array(float(len(good.descriptions))),
        faults=np.array([], dtype=str),
        ignored=np.array([code for code in ignored if code != "small"], dtype=str),
    )


def _vectors(reference: Reference, described: Sequence[Description]) -> Floats:
    return np.stack([reference.vector(one) for one in described])


def _whitening(covariance: Floats) -> Floats:
    """W with W S W^T = 1 for a covariance S that is shrunk towards its diagonal."""
    shrunk = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * np.diag(np.diag(covariance)) + 1e-6 * np.eye(len(covariance))
    return np.asarray(np.linalg.inv(np.linalg.cholesky(shrunk)), dtype=np.float64)


def _positive(values: Floats) -> Floats:
    return np.asarray(np.maximum(values, 1e-6), dtype=np.float64)

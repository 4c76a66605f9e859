"""Boxes by Bayes' rule: where readers' boxes of the finding lie is the prior, the map inside them the evidence.

Thresholds and components take the map's blob for the lesion's outline, which a coarse map cannot give. Here the tune
split's boxes of a finding are the candidates (place, size and shape at once). A candidate's evidence is the mean of the
standardised map inside it (or what stands out from its surroundings), and, where asked for, how like the map is to that
of the image that the candidate comes from (as in kernel regression, Nadaraya 1964). Its posterior is
prior x exp(beta x evidence). The box put out is the candidate of greatest expected utility under the posterior,
averaged with those that agree with it. With beta 0 that is the best box without looking, so a tuned rule holds the
prior as a special case.

The evidence of all maps and candidates is one matrix product, made once; each beta costs a product of its own size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cxr.arrays import Floats
from cxr.boxes import iou_matrix
from stage2_pseudolabel.boxes.rule import Boxes, Found, Maps
from stage2_pseudolabel.settings.boxes import Contrast

UTILITY_RAMP = (0.3, 0.6)
"""A box is worth nothing below the first IoU with the truth, everything from the second, linear between: the
reported .4 lies inside, and better fits are still preferred."""

RING_WIDTH = 0.5
"""Width of the ring around a candidate, as a share of its own width (left and right) and height (above and below)."""


@dataclass(frozen=True)
class Candidates:
    """The boxes that the rule chooses among.

    boxes: (M, 4) in shares of the map's width and height.
    owners: (M,) patients (images where unknown) that the boxes come from.
    rows: (M,) of the images that the boxes come from, on the tune split.
    maps: (M, h, w) of those images, by the method that the rule is for; `with_maps` fills them in.
        Both are needed for likeness alone.
    """

    boxes: Boxes
    owners: tuple[str, ...]
    rows: tuple[int, ...] = ()
    maps: Maps | None = None

    def __len__(self) -> int:
        return len(self.owners)

    def with_maps(self, maps: Maps) -> "Candidates":
        """The same with the maps of their images, out of all of the tune split's (N, h, w)."""
        assert len(self.rows) == len(self), "the candidates' rows are not known"
        return replace(self, maps=maps[list(self.rows)])

    @cached_property
    def utility(self) -> Floats:
        """(M, M) worth of putting out the row's box where the column's is true."""
        low, high = UTILITY_RAMP
        worth: Floats = np.clip((iou_matrix(self.boxes, self.boxes) - low) / (high - low), 0, 1)
        return worth

    def coverage(self, map_hw: tuple[int, int], contrast: Contrast = "mean") -> Floats:
        """(M, h * w) weights of a map's cells in each box's evidence, exact for parts of cells.

        mean: averages the map inside the box; a row sums to 1. ring: that minus the average in the ring around the box
        (RING_WIDTH, cut to the map); a row sums to 0. A box that fills the map has no ring, and its row is of zeros.
        """
        inner = _inside(self.boxes, map_hw)
        total = inner.sum(axis=1, keepdims=True)
        if contrast == "mean":
            return np.asarray(inner / np.maximum(total, 1e-12))
        margin = np.tile((self.boxes[:, 2:] - self.boxes[:, :2]) * RING_WIDTH, 2) * [-1, -1, 1, 1]
        ring = _inside(self.boxes + margin, map_hw) - inner
        around = ring.sum(axis=1, keepdims=True)
        weights = inner / np.maximum(total, 1e-12) - ring / np.maximum(around, 1e-12)
        return np.where(around > 1e-9, weights, 0.0)


def _inside(boxes: Boxes, map_hw: tuple[int, int]) -> Floats:
    """(M, h * w) area of each cell that lies inside each box, in cells."""
    height, width = map_hw
    rows = _overlap(boxes[:, 1] * height, boxes[:, 3] * height, height)
    columns = _overlap(boxes[:, 0] * width, boxes[:, 2] * width, width)
    return np.asarray(rows[:, :, None] * columns[:, None, :]).reshape(len(boxes), height * width)


def _overlap(low: Floats, high: Floats, count: int) -> Floats:
    """(M, count) length of [low, high] inside each cell [i, i + 1]."""
    cells = np.arange(count)
    return np.asarray(np.clip(np.minimum(high[:, None], cells + 1) - np.maximum(low[:, None], cells), 0, None))


def evidence_matrix(
    maps: Maps,
    candidates: Candidates,
    *,
    contrast: Contrast = "mean",
    background: npt.NDArray[np.float32] | None = None,
    likeness: float = 0.0,
) -> Floats:
    """(N, M) evidence of each candidate in each map (N, h, w); rows of zeros where a map says nothing (constant, or
    not finite).

    Args:
        background: (h, w), taken away before each map is brought to mean 0 and deviation 1.
        likeness: weight, beside the contrast's 1, of the correlation between the map and the candidate's own.
    """
    standard = _standardised(maps, background)
    evidence: Floats = standard @ candidates.coverage((maps.shape[1], maps.shape[2]), contrast).T
    if likeness:
        assert candidates.maps is not None, "likeness needs the maps of the candidates' images"
        own = _standardised(candidates.maps, background)
        evidence = evidence + likeness / standard.shape[1] * (standard @ own.T)
    return evidence


def _standardised(maps: Maps, background: npt.NDArray[np.float32] | None) -> Floats:
    """(N, h * w) of mean 0 and deviation 1 each; zeros where a map is constant or not finite."""
    values = maps.astype(np.float64) if background is None else maps.astype(np.float64) - background
    flat = values.reshape(len(maps), maps.shape[1] * maps.shape[2])
    spread, reach = flat.std(axis=1), np.abs(flat).max(axis=1, initial=0.0)
    says = np.isfinite(spread) & (spread > 1e-12 * np.maximum(1.0, reach))
    standard = np.zeros_like(flat)
    standard[says] = (flat[says] - flat[says].mean(axis=1, keepdims=True)) / spread[says, None]
    return standard


def posterior_boxes(
    evidence: Floats, candidates: Candidates, *, beta: float, max_boxes: int = 1, owners: Sequence[str] | None = None
) -> Found:
    """The boxes of greatest expected utility under the posterior, and that utility in [0, 1] as their evidence.

    What is put out is not the best candidate itself but the mean of the candidates, weighted by their posterior and by
    the best one's worth where they are true: few candidates then make more than few places.

    Further boxes come from the posterior that the boxes before do not explain: each takes a candidate's mass away in
    proportion to its worth there. So the first boxes do not depend on how many are asked for.

    Args:
        evidence: (N, M), from `evidence_matrix`.
        owners: (N,) of the maps; candidates of the same owner count for nothing there. A map whose owner has all of
            the candidates gets no box.
    """
    num, count = evidence.shape
    if not evidence.size:
        return Found(np.zeros(0, dtype=np.int64), np.zeros((0, 4)), np.zeros(0))
    allowed = np.ones((num, count), dtype=bool)
    if owners is not None:
        allowed = np.asarray(owners)[:, None] != np.asarray(candidates.owners)[None, :]
    mass = _posterior(evidence, beta, allowed)
    parts = []
    rows = np.arange(num)
    for _ in range(max_boxes):
        expected = np.where(allowed[rows], mass @ candidates.utility.T, -1.0)
        best = np.argmax(expected, axis=1)
        value = expected[np.arange(len(rows)), best]
        going = value > 0
        rows, best, mass = rows[going], best[going], mass[going]
        worth = candidates.utility[best]
        parts.append(Found(rows, _average(candidates.boxes, mass * worth), value[going]))
        mass = mass * (1 - worth)
    image = np.concatenate([part.image for part in parts])
    order = np.argsort(image, kind="stable")
    boxes = np.concatenate([part.boxes for part in parts])
    return Found(image[order], boxes[order], np.concatenate([part.evidence for part in parts])[order])


def _average(boxes: Boxes, weights: Floats) -> Boxes:
    """(N, 4) means of the candidates (M, 4) by weights (N, M)."""
    return np.asarray(weights @ boxes / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300))


def _posterior(evidence: Floats, beta: float, allowed: npt.NDArray[np.bool_]) -> Floats:
    """(N, M) shares that sum to 1 a map, or to 0 where no candidate is allowed."""
    score = np.where(allowed, beta * evidence, -np.inf)
    top = score.max(axis=1, keepdims=True)
    mass: Floats = np.exp(score - np.where(np.isfinite(top), top, 0.0))
    return np.asarray(mass / np.maximum(mass.sum(axis=1, keepdims=True), 1e-300))


class BayesRule:
    """The rule for one finding: its candidates, how much the map counts, and how many boxes an image.

    Args:
        beta: weight of the evidence; 0 looks at no map.
        contrast: what a candidate's evidence is, see `Candidates.coverage`.
        background: (h, w) mean map of images without the finding, taken away first; None: nothing.
        likeness: weight of the likeness to the candidate's own map, see `evidence_matrix`.
    """

    kind = "bayes"

    def __init__(
        self,
        candidates: Candidates,
        *,
        beta: float,
        max_boxes: int = 1,
        contrast: Contrast = "mean",
        background: npt.NDArray[np.float32] | None = None,
        likeness: float = 0.0,
    ) -> None:
        self.candidates, self.beta, self.max_boxes = candidates, beta, max_boxes
        self.contrast, self.background, self.likeness = contrast, background, likeness

    def find(self, maps: Maps, *, owners: Sequence[str] | None = None) -> Found:
        """Boxes of maps (N, h, w) and their expected utility. A map that says nothing leaves the prior alone."""
        evidence = evidence_matrix(
            maps, self.candidates, contrast=self.contrast, background=self.background, likeness=self.likeness
        )
        return posterior_boxes(evidence, self.candidates, beta=self.beta, max_boxes=self.max_boxes, owners=owners)

    def as_dict(self) -> dict[str, str | float]:
        """For the manifest."""
        return {
            "rule": "bayes",
            "kind": self.kind,
            "beta": self.beta,
            "max_boxes": self.max_boxes,
            "contrast": self.contrast,
            "likeness": self.likeness,
            "background": "none" if self.background is None else "negatives",
            "candidates": len(self.candidates),
        }

    def __str__(self) -> str:
        extra = f" + {self.likeness:g} likeness" if self.likeness else ""
        behind = "" if self.background is None else ", minus the negatives' mean"
        return (
            f"Bayes, beta {self.beta:g} on {self.contrast}{extra}, {len(self.candidates)} candidates,"
            f" up to {self.max_boxes}{behind}"
        )

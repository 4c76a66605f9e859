"""Boxes by Bayes' rule: the readers' boxes of the finding are the prior, the map inside them is the evidence.

Thresholds and components treat the bright area of the map as the outline of the lesion, which a coarse map cannot give.
Here the boxes of the finding on the tune split are the candidates: each gives place, size and shape. The evidence of a
candidate is the mean of the standardised map inside it, or its contrast to the surroundings. Where asked for, the
similarity between the map and that of the candidate's image is added (as in kernel regression, Nadaraya 1964). The
posterior is prior x exp(beta x evidence). The output is the candidate of greatest expected utility under the posterior,
averaged with those that agree with it. With beta 0 this is the best box without a map, so a tuned rule includes the
prior as a special case.

The evidence of all maps and candidates is one matrix product; each beta costs one more of its size.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cxr.arrays import Floats
from cxr.boxes import iou_matrix
from stage2_pseudolabel.boxes.rule import Boxes, Found, Maps, nothing_found
from stage2_pseudolabel.settings.boxes import Contrast

UTILITY_RAMP = (0.3, 0.6)
"""The utility of a box is 0 up to the first IoU with the truth, 1 from the second, and linear between. The reported .4
lies inside, and better fits are still preferred."""

RING_WIDTH = 0.5
"""Width of the ring around a candidate, as a share of its own width (left and right) and height (above and below)."""


@dataclass(frozen=True)
class Candidates:
    """The boxes that the rule chooses among.

    boxes: (M, 4) in shares of the map's width and height. patients: (M,) of the boxes (images where unknown).
    rows: (M,) of their images in the tune split. maps: (M, h, w) of these images, by the method that the rule is for;
    see `with_maps`. Only the similarity needs rows and maps.
    """

    boxes: Boxes
    patients: tuple[str, ...]
    rows: tuple[int, ...] = ()
    maps: Maps | None = None

    def __len__(self) -> int:
        return len(self.patients)

    def with_maps(self, maps: Maps) -> "Candidates":
        """The same candidates with the maps of their images, from those of the tune split (N, h, w)."""
        assert len(self.rows) == len(self), "the candidates' rows are not known"
        return replace(self, maps=maps[list(self.rows)])

    @cached_property
    def utility(self) -> Floats:
        """(M, M) utility of the row's box where the column's is true, in [0, 1]."""
        low, high = UTILITY_RAMP
        utility: Floats = np.clip((iou_matrix(self.boxes, self.boxes) - low) / (high - low), 0, 1)
        return utility

    def coverage(self, map_hw: tuple[int, int], contrast: Contrast = "mean") -> Floats:
        """(M, h * w) weights of a map's cells in each box's evidence; cells that are partly inside count in part.

        mean: averages the map inside the box; a row sums to 1. ring: that minus the average in the ring around the box
        (RING_WIDTH, clipped to the map); a row sums to 0. The row of a box that fills the map is 0.
        """
        inner = _inside(self.boxes, map_hw)
        mean: Floats = inner / np.maximum(inner.sum(axis=1, keepdims=True), 1e-12)
        if contrast == "mean":
            return mean
        margin = np.tile((self.boxes[:, 2:] - self.boxes[:, :2]) * RING_WIDTH, 2) * [-1, -1, 1, 1]
        ring = _inside(self.boxes + margin, map_hw) - inner
        around = ring.sum(axis=1, keepdims=True)
        return np.where(around > 1e-9, mean - ring / np.maximum(around, 1e-12), 0.0)


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


def _standardised(maps: Maps, background: npt.NDArray[np.float32] | None) -> Floats:
    """(N, h * w) maps with mean 0 and standard deviation 1; zeros where a map is constant or not finite."""
    values = maps.astype(np.float64) if background is None else maps.astype(np.float64) - background
    flat = values.reshape(len(maps), maps.shape[1] * maps.shape[2])
    spread, reach = flat.std(axis=1), np.abs(flat).max(axis=1, initial=0.0)
    varies = np.isfinite(spread) & (spread > 1e-12 * np.maximum(1.0, reach))
    standard = np.zeros_like(flat)
    standard[varies] = (flat[varies] - flat[varies].mean(axis=1, keepdims=True)) / spread[varies, None]
    return standard


def posterior_boxes(
    evidence: Floats, candidates: Candidates, *, beta: float, max_boxes: int = 1, patients: Sequence[str] | None = None
) -> Found:
    """The boxes of greatest expected utility under the posterior, and that utility in [0, 1] as their evidence.

    The output is not the best candidate itself but the mean of all candidates, weighted by their posterior and by the
    utility of the best one where they are true. So the boxes are not limited to the candidates' positions.

    Each further box comes from the part of the posterior that the boxes before do not explain: a box lowers a
    candidate's probability in proportion to its utility there. So the first boxes do not depend on `max_boxes`.

    Args:
        evidence: (N, M), from `BayesRule.evidence`.
        patients: (N,) of the maps; candidates of the same patient are not used. A map gets no box if all candidates
            come from its patient.
    """
    num, count = evidence.shape
    if not evidence.size:
        return nothing_found()
    allowed = np.ones((num, count), dtype=bool)
    if patients is not None:
        allowed = np.asarray(patients)[:, None] != np.asarray(candidates.patients)[None, :]
    mass = _posterior(evidence, beta, allowed)
    parts = []
    rows = np.arange(num)
    for _ in range(max_boxes):
        expected = np.where(allowed[rows], mass @ candidates.utility.T, -1.0)
        best = np.argmax(expected, axis=1)
        value = expected[np.arange(len(rows)), best]
        going = value > 0
        rows, best, mass = rows[going], best[going], mass[going]
        utility = candidates.utility[best]
        weights = mass * utility
        means = weights @ candidates.boxes / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
        parts.append(Found(rows, means, value[going]))
        mass = mass * (1 - utility)
    image = np.concatenate([part.image for part in parts])
    order = np.argsort(image, kind="stable")
    boxes = np.concatenate([part.boxes for part in parts])
    return Found(image[order], boxes[order], np.concatenate([part.evidence for part in parts])[order])


def _posterior(evidence: Floats, beta: float, allowed: npt.NDArray[np.bool_]) -> Floats:
    """(N, M) shares that sum to 1 a map, or to 0 where no candidate is allowed."""
    score = np.where(allowed, beta * evidence, -np.inf)
    top = score.max(axis=1, keepdims=True)
    mass: Floats = np.exp(score - np.where(np.isfinite(top), top, 0.0))
    return np.asarray(mass / np.maximum(mass.sum(axis=1, keepdims=True), 1e-300))


@dataclass(frozen=True, eq=False)
class BayesRule:
    """The rule for one finding.

    beta: weight of the evidence; 0 ignores the map. max_boxes: most boxes per image.
    contrast: see `Candidates.coverage`. similarity: weight of the similarity term.
    background: (h, w) mean map of images without the finding, which is subtracted first; None: nothing.
    """

    candidates: Candidates
    _: KW_ONLY
    beta: float
    max_boxes: int = 1
    contrast: Contrast = "mean"
    background: npt.NDArray[np.float32] | None = None
    similarity: float = 0.0
    kind: ClassVar[str] = "bayes"

    def evidence(self, maps: Maps) -> Floats:
        """(N, M) evidence of each candidate in maps (N, h, w); zeros for maps that are constant or not finite.

        Maps are standardised after the background is subtracted. The similarity term is the correlation between the map
        and the candidate's own.
        """
        standard = _standardised(maps, self.background)
        evidence: Floats = standard @ self.candidates.coverage((maps.shape[1], maps.shape[2]), self.contrast).T
        if self.similarity:
            assert self.candidates.maps is not None, "similarity needs the maps of the candidates' images"
            own = _standardised(self.candidates.maps, self.background)
            evidence = evidence + self.similarity / standard.shape[1] * (standard @ own.T)
        return evidence

    def find(self, maps: Maps, *, patients: Sequence[str] | None = None) -> Found:
        """Boxes of maps (N, h, w) and their expected utility; for a map without evidence those of the prior."""
        evidence = self.evidence(maps)
        return posterior_boxes(evidence, self.candidates, beta=self.beta, max_boxes=self.max_boxes, patients=patients)

    def as_dict(self) -> dict[str, str | float]:
        """For the manifest."""
        return {
            "rule": "bayes",
            "kind": self.kind,
            "beta": self.beta,
            "max_boxes": self.max_boxes,
            "contrast": self.contrast,
            "similarity": self.similarity,
            "background": "none" if self.background is None else "negatives",
            "candidates": len(self.candidates),
        }

    def __str__(self) -> str:
        extra = f" + {self.similarity:g} similarity" if self.similarity else ""
        behind = "" if self.background is None else ", minus the negatives' mean"
        return (
            f"Bayes, beta {self.beta:g} on {self.contrast}{extra}, {len(self.candidates)} candidates,"
            f" up to {self.max_boxes}{behind}"
        )

"""Boxes by Bayes' rule: where readers' boxes of the finding lie is the prior, the map inside them the evidence.

Thresholds and components take the map's blob for the lesion's outline, which a coarse map cannot give. Here the tune
split's boxes of a finding are the candidates (place, size and shape at once). A candidate's evidence is the mean of the
standardised map inside it; its posterior is prior x exp(beta x evidence); the box put out has the greatest expected
utility under the posterior. With beta 0 that is the best single box without looking, so a tuned rule holds the prior as
a special case.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cxr.boxes import Boxes, iou_matrix
from stage2_pseudolabel.boxes_from_cam import Map

Floats = npt.NDArray[np.float64]

UTILITY_RAMP = (0.3, 0.6)
"""A box is worth nothing below the first IoU with the truth, everything from the second, linear between: the
reported .4 lies inside, and better fits are still preferred."""


@dataclass(frozen=True)
class Candidates:
    """The boxes that the rule chooses among.

    boxes: (M, 4) in shares of the map's width and height.
    owners: (M,) patients (images where unknown) that the boxes come from.
    """

    boxes: Boxes
    owners: tuple[str, ...]

    @cached_property
    def utility(self) -> Floats:
        """(M, M) worth of putting out the row's box where the column's is true."""
        low, high = UTILITY_RAMP
        return np.clip((iou_matrix(self.boxes, self.boxes) - low) / (high - low), 0, 1)

    def coverage(self, map_hw: tuple[int, int]) -> Floats:
        """(M, h * w) weights that average a map inside each box, exact for parts of cells; each row sums to 1."""
        height, width = map_hw
        rows = _overlap(self.boxes[:, 1] * height, self.boxes[:, 3] * height, height)
        columns = _overlap(self.boxes[:, 0] * width, self.boxes[:, 2] * width, width)
        weights = (rows[:, :, None] * columns[:, None, :]).reshape(len(self.boxes), -1)
        return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)


def _overlap(low: Floats, high: Floats, count: int) -> Floats:
    """(M, count) length of [low, high] inside each cell [i, i + 1]."""
    cells = np.arange(count)
    return np.clip(np.minimum(high[:, None], cells + 1) - np.maximum(low[:, None], cells), 0, None)


class BayesRule:
    """The rule for one finding: its candidates, how much the map counts, and how many boxes an image.

    Args:
        beta: weight of the evidence; 0 looks at no map.
        max_boxes: further boxes come from the posterior that the boxes before do not explain.
    """

    def __init__(self, candidates: Candidates, *, beta: float, max_boxes: int = 1) -> None:
        self.candidates, self.beta, self.max_boxes = candidates, beta, max_boxes
        self._coverage: dict[tuple[int, int], Floats] = {}

    def boxes(self, cam: Map, *, exclude: str = "") -> tuple[Boxes, Floats]:
        """Boxes (N, 4) in shares of the map and their expected utility (N,) in [0, 1], best first.

        Args:
            cam: (h, w). A constant map is no evidence: the prior alone decides.
            exclude: owner whose boxes must not be candidates (its image is being scored, and is on the tune split).
        """
        allowed = np.array([owner != exclude for owner in self.candidates.owners], dtype=bool)
        if not allowed.any():
            return np.zeros((0, 4)), np.zeros(0)
        mass = self._posterior(cam, allowed)
        found: list[tuple[int, float]] = []
        for _ in range(self.max_boxes):
            expected = self.candidates.utility @ mass
            expected[~allowed] = -1
            best = int(np.argmax(expected))
            if expected[best] <= 0:
                break
            found.append((best, float(expected[best])))
            mass = mass * (1 - self.candidates.utility[best])
        indices = [index for index, _ in found]
        return self.candidates.boxes[indices], np.array([value for _, value in found])

    def _posterior(self, cam: Map, allowed: npt.NDArray[np.bool_]) -> Floats:
        values = np.asarray(cam, dtype=np.float64).ravel()
        spread = values.std()
        score = np.zeros(len(allowed))
        if self.beta and np.isfinite(spread) and spread > 1e-12 * max(1.0, np.abs(values).max()):
            shape = (cam.shape[0], cam.shape[1])
            if shape not in self._coverage:
                self._coverage[shape] = self.candidates.coverage(shape)
            score = self.beta * (self._coverage[shape] @ ((values - values.mean()) / spread))
        score = np.where(allowed, score, -np.inf)
        mass: Floats = np.exp(score - score.max())
        return mass / mass.sum()

    def as_dict(self) -> dict[str, str | float]:
        """For the manifest."""
        return {
            "rule": "bayes",
            "beta": self.beta,
            "max_boxes": self.max_boxes,
            "candidates": len(self.candidates.owners),
        }

    def __str__(self) -> str:
        return f"Bayes, beta {self.beta:g}, {len(self.candidates.owners)} candidates, up to {self.max_boxes}"

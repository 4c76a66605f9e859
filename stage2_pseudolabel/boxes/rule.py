"""What a box rule is: maps of one finding in, boxes with their evidence out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cxr.arrays import Floats

Maps = npt.NDArray[np.float32]
Boxes = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """Boxes of N maps, by image, within an image the strongest first.

    image: (D,) rows of the maps. boxes: (D, 4) xyxy in shares of the map's width and height.
    evidence: (D,) in [0, 1]; times the class probability it is the score.
    """

    image: npt.NDArray[np.int64]
    boxes: Boxes
    evidence: Floats

    def __len__(self) -> int:
        return len(self.image)

    def of(self, row: int) -> tuple[Boxes, Floats]:
        """Boxes and evidence of one map."""
        own = self.image == row
        return self.boxes[own], self.evidence[own]


def first_boxes(found: Found, count: int) -> Found:
    """At most the first `count` boxes of each image.

    What any rule finds with `max_boxes` m are the first m of what it finds with more, so a search runs it only once.
    """
    starts = np.flatnonzero(np.r_[True, found.image[1:] != found.image[:-1]]) if len(found) else found.image
    place = np.arange(len(found)) - np.repeat(starts, np.diff(np.r_[starts, len(found)]))
    kept = place < count
    return Found(found.image[kept], found.boxes[kept], found.evidence[kept])


def nothing_found() -> Found:
    """No boxes."""
    return Found(np.zeros(0, dtype=np.int64), np.zeros((0, 4)), np.zeros(0))


def joined(parts: Sequence[tuple[int, Boxes, Floats]]) -> Found:
    """One `Found` from (row, boxes (n, 4), evidence (n,)) of single maps, in the order given."""
    if not parts:
        return nothing_found()
    image = np.concatenate([np.full(len(boxes), row, dtype=np.int64) for row, boxes, _ in parts])
    return Found(image, np.concatenate([b for _, b, _ in parts]), np.concatenate([e for _, _, e in parts]))


class Rule(Protocol):
    """How maps of one finding become boxes. kind: of `settings.boxes.Kind`. as_dict(): values for the manifest."""

    @property
    def kind(self) -> str: ...

    def find(self, maps: Maps, *, patients: Sequence[str] | None = None) -> Found:
        """Boxes of maps (N, h, w), which are not scaled.

        patients: (N,), or images where unknown, on the tune split, where the rule does not use the true boxes of the
        map's own patient. None elsewhere.
        """
        ...

    def as_dict(self) -> dict[str, str | float]: ...

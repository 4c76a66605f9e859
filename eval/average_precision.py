"""COCO's 101-point average precision from stored matches, under any weighting of the images.

Matching detections to true boxes does not depend on which other images are in the set, so it is
done once (`eval.detection`) and a bootstrap only re-weights images. That makes a thousand
resamples cost about as much as one evaluation.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

RECALLS: Floats = np.linspace(0.0, 1.0, 101)
"""The recall levels of COCO, made as COCO makes them so that ties round alike."""

MAX_CELLS = 2_000_000
"""Upper bound of (resamples x detections) held at once: keeps a bootstrap under some 50 MB."""


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class, matched once to its true boxes at every IoU threshold.

    Detections stand in the order COCO concatenates them: by image, and within an image by falling
    score, at most 100 an image.

    finding: the class.
    ious: (T,) thresholds.
    scores: (D,) float.
    image: (D,) index into the result's image_ids.
    hit: (T, D) bool, the detection found a true box.
    ignored: (T, D) bool, neither right nor wrong (it lies on a crowd region).
    num_true: (I,) true boxes of the class in each image.
    """

    finding: str
    ious: tuple[float, ...]
    scores: Floats
    image: Ints
    hit: Bools
    ignored: Bools
    num_true: Ints

    def iou_index(self, iou: float) -> int:
        """Position of a threshold that was asked for when matching; ValueError for another one."""
        for index, known in enumerate(self.ious):
            if abs(known - iou) < 1e-9:
                return index
        raise ValueError(f"no matches at IoU {iou}; matched at {list(self.ious)}")


def average_precision(
    matches: ClassMatches, iou: float, *, counts: npt.NDArray[np.integer] | None = None
) -> Floats:
    """AP of one class for each weighting of the images.

    counts: (R, I) how often each image occurs in each resample; None means every image once.
    Returns (R,) in [0, 1], NaN where the resample holds no true box of the class.
    Equal scores keep the order of the images as they are, copies of a detection side by side.
    """
    if counts is None:
        counts = np.ones((1, len(matches.num_true)), dtype=np.int32)
    num_true = counts @ matches.num_true
    image, is_hit = _ranked(matches, iou)
    if not is_hit.any():
        return np.where(num_true > 0, 0.0, np.nan)
    rows = max(1, MAX_CELLS // len(image))
    parts = [
        _area(counts[start : start + rows], num_true[start : start + rows], image, is_hit)
        for start in range(0, max(1, len(counts)), rows)  # no resamples: one empty part
    ]
    return np.concatenate(parts)


def _ranked(matches: ClassMatches, iou: float) -> tuple[Ints, Bools]:
    """Image index and hit flag of each detection, best score first, up to the last hit."""
    t = matches.iou_index(iou)
    kept = np.flatnonzero(~matches.ignored[t])
    order = kept[np.argsort(-matches.scores[kept], kind="stable")]
    is_hit = matches.hit[t][order]
    # Detections after the last hit change neither recall nor the envelope of the precision.
    end = int(np.flatnonzero(is_hit)[-1]) + 1 if is_hit.any() else 0
    return matches.image[order[:end]], is_hit[:end]


def _area(counts: npt.NDArray[np.integer], num_true: Ints, image: Ints, is_hit: Bools) -> Floats:
    """Mean over COCO's recall levels of the precision's envelope: (R, I) counts -> (R,).

    Precision falls at every false positive, so its envelope is fixed by the values at hits alone.
    """
    weight = counts[:, image]
    at_hit = np.flatnonzero(is_hit)
    seen = np.cumsum(weight, axis=1, dtype=np.int32)[:, at_hit]
    hits = np.cumsum(weight[:, at_hit], axis=1, dtype=np.int32)
    precision = hits / np.maximum(seen, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = hits / np.maximum(num_true, 1)[:, None]
    # How many of the 101 levels are reached by each hit, minus those reached before it.
    reached = np.searchsorted(RECALLS, recall, side="right")
    newly = np.diff(reached, axis=1, prepend=0)
    area: Floats = (envelope * newly).sum(axis=1) / len(RECALLS)
    area[num_true == 0] = np.nan
    return area


def mean_over_classes(values: Floats) -> Floats:
    """(..., K) -> (...): mean over the classes that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    num = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.where(num > 0, total / np.maximum(num, 1), np.nan)

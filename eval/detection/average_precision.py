"""COCO's 101-point average precision from stored matches, under any weighting of the images.

Matching detections to true boxes does not depend on which other images are in the set, so it is
done once (`eval.detection.coco_ap`) and a bootstrap only re-weights images. That makes a thousand
resamples cost about as much as one evaluation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from cxr.arrays import Bools, Floats, Ints, mean_over_classes
from eval.stats.bootstrap import (
    Block,
    Difference,
    Interval,
    over_blocks,
    percentile_interval,
    resample_counts,
)

RECALLS: Floats = np.linspace(0.0, 1.0, 101)
"""The recall levels of COCO, made as COCO makes them so that ties round alike."""

_LATE: Bools = np.arange(101) / 100 < RECALLS
"""Levels that lie one rounding above their hundredth: a recall of exactly that hundredth does not reach them."""


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

    def ranked(self, iou: float) -> tuple[Floats, Ints, Bools]:
        """Score, image index and hit flag of each detection that counts, best score first; equals as they stand."""
        t = self.iou_index(iou)
        kept = np.flatnonzero(~self.ignored[t])
        order = kept[np.argsort(-self.scores[kept], kind="stable")]
        return self.scores[order], self.image[order], self.hit[t][order]


class HitRanking:
    """The ranked detections of one class, summed up to each of its H hits.

    Precision falls at every false positive, so all that a curve needs is known at the hits: detections between two
    hits are one sparse row, and those after the last hit are dropped.
    """

    def __init__(self, image: Ints, is_hit: Bools, num_true: Ints) -> None:
        """image, is_hit: (D,) best score first. num_true: (I,) true boxes of each image."""
        at_hit = np.flatnonzero(is_hit)
        segment = np.searchsorted(at_hit, np.arange(len(image)))
        self.hit_image = image[at_hit]
        self._seen = sum_rows(segment, image, shape=(len(at_hit), len(num_true)))
        self._true = num_true_row(num_true)

    def num_true(self, block: Block) -> Block:
        """(I, B) -> (B,) true boxes of each resample."""
        num_true: Block = (self._true @ block)[0]
        return num_true

    def hits(self, block: Block) -> Block:
        """(I, B) -> (H, B) hits up to each hit, itself with it."""
        return np.cumsum(block[self.hit_image], axis=0, dtype=np.int32)

    def precision_envelope(self, block: Block, hits: Block) -> Floats:
        """(H, B) highest precision at each hit or any later one; `hits` of the same block."""
        seen = np.cumsum(self._seen @ block, axis=0, dtype=np.int32)
        precision = hits / np.maximum(seen, 1, out=seen)
        return np.maximum.accumulate(precision[::-1], axis=0)[::-1]


def num_true_row(num_true: Ints) -> csr_array:
    """(I,) true boxes of each image as a sparse (1, I): times a block it gives those of each resample."""
    return csr_array(num_true[None].astype(np.int32))


def sum_rows(rows: Ints, images: Ints, *, shape: tuple[int, int]) -> csr_array:
    """Sparse matrix that adds up, for each row, the weights of its images; rows from shape[0] on drop out."""
    kept = rows < shape[0]
    ones = np.ones(int(kept.sum()), dtype=np.int32)
    return csr_array((ones, (rows[kept], images[kept])), shape=shape, dtype=np.int32)


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
    return over_blocks(counts, [ap_figure(matches, iou)])[:, 0]


def ap_figure(matches: ClassMatches, iou: float) -> Callable[[Block], Floats]:
    """AP of one class as a figure for `over_blocks`: what does not depend on the resample is done here, once."""
    _, image, is_hit = matches.ranked(iou)
    ranking = HitRanking(image, is_hit, matches.num_true)

    def figure(block: Block) -> Floats:
        num_true, hits = ranking.num_true(block), ranking.hits(block)
        newly = np.diff(levels_reached(hits, num_true), axis=0, prepend=0)
        area: Floats = np.einsum("hb,hb->b", ranking.precision_envelope(block, hits), newly) / len(RECALLS)
        area[num_true == 0] = np.nan
        return area

    return figure


def levels_reached(hits: Block, num_true: Block) -> Floats:
    """(H, B) how many of RECALLS are at most hits / num_true; same as a search for each recall, but faster.

    A quotient in hundredths that is no whole number lies too far from one for rounding to matter.
    """
    hundredths = hits * 100.0 / np.maximum(num_true, 1)
    level = hundredths.astype(np.intp)
    reached: Floats = level + 1.0 - (_LATE.take(level) & (level == hundredths))
    return reached


def resampled_ap(matches: Sequence[ClassMatches], counts: npt.NDArray[np.integer], *, iou: float) -> Floats:
    """AP of each class in each resample: (R, K); NaN where a resample lacks the class."""
    if not matches:
        return np.zeros((len(counts), 0))
    return np.stack([average_precision(m, iou, counts=counts) for m in matches], axis=1)


def bootstrap_mean_ap(
    matches: Sequence[ClassMatches],
    groups: Sequence[str],
    *,
    iou: float = 0.4,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Interval of the mean AP over classes.

    groups: (I,) group of each image, in the order of the result's image_ids. A class without a true
    box in a resample is left out of that resample's mean.
    """
    counts = resample_counts(groups, num_resamples=num_resamples, seed=seed)
    return percentile_interval(mean_over_classes(resampled_ap(matches, counts, iou=iou)))


def bootstrap_difference(
    pair: tuple[Sequence[ClassMatches], Sequence[ClassMatches]],
    groups: Sequence[str],
    *,
    iou: float = 0.4,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Difference:
    """Mean AP of the first minus that of the second, on the same images in the same draws."""
    first, second = pair
    assert [m.finding for m in first] == [m.finding for m in second], "other classes"
    counts = resample_counts(groups, num_resamples=num_resamples, seed=seed)
    once = np.ones((1, len(groups)), dtype=np.int32)

    def gap(weights: npt.NDArray[np.integer]) -> Floats:
        aps = [mean_over_classes(resampled_ap(side, weights, iou=iou)) for side in pair]
        difference: Floats = aps[0] - aps[1]
        return difference

    interval = percentile_interval(gap(counts))
    return Difference(float(gap(once)[0]), interval.low, interval.high)

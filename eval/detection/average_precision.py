"""COCO's average precision with 101 recall levels, from stored matches, for any weighting of the images.

How a detection is matched does not depend on the other images, so boxes are matched once and a bootstrap only
re-weights the images. A thousand resamples then cost about as much as one evaluation.

Source: Lin et al., Microsoft COCO, ECCV 2014, as implemented by `COCOeval.accumulate` of pycocotools 2.0. A class
without a true box has no AP: NaN, excluded from all means.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array

from cxr.arrays import Bools, Floats, Ints, mean_over_classes
from cxr.coco import CocoBoxes
from eval.detection.indexed import IndexedDetections
from eval.detection.matching import (
    COCO_IOUS,
    IOUS,
    MAIN_IOU,
    MAX_DETECTIONS,
    ClassMatches,
    Detections,
    TrueBoxes,
    greedy_hits,
    place_in_group,
)
from eval.stats.bootstrap import Block, Counts
from eval.stats.measures import Measure, blocks_measure

RECALLS: Floats = np.linspace(0.0, 1.0, 101)
"""COCO's recall levels, computed as COCO computes them, so that ties round alike."""

_LATE: Bools = np.arange(101) / 100 < RECALLS
"""Levels that rounding puts above their hundredth: a recall of exactly that hundredth does not reach them."""


def ap_measure(matches: Sequence[ClassMatches], iou: float) -> Measure:
    """AP of each class at one of the matched IoU thresholds; the measure's name is "ap40" at .4."""
    figures = [ap_figure(m, iou) for m in matches]
    return blocks_measure(f"ap{round(100 * iou)}", [m.finding for m in matches], figures, cases=true_boxes(matches))


def ap5095_measure(matches: Sequence[ClassMatches]) -> Measure:
    """AP of each class averaged over the IoU thresholds .50 to .95, all of which must have been matched; "ap5095"."""
    return averaged_ap_measure("ap5095", matches, COCO_IOUS)


def averaged_ap_measure(name: str, matches: Sequence[ClassMatches], ious: Sequence[float]) -> Measure:
    """AP of each class averaged over several of the matched IoU thresholds.

    For its interval the mean over thresholds counts as a share of twice as many boxes, because it varies less.
    """
    parts = [ap_measure(matches, iou) for iou in ious]

    def resampled(counts: Counts) -> Floats:
        return np.asarray(np.mean([part.resampled(counts) for part in parts], axis=0), dtype=np.float64)

    return Measure(name, tuple(m.finding for m in matches), resampled, cases=2 * true_boxes(matches))


def label_ap_measure(matches: Sequence[ClassMatches], iou: float) -> Measure:
    """Label-conditioned AP: AP of each class over the images that have a true box of it; "label_ap40" at .4.

    It asks where a finding is that is known to be there, so detections in images without the finding do not count.
    This is what systems report that are given the finding's name with the image.
    """
    measure = ap_measure([_with_class(m) for m in matches], iou)
    return replace(measure, name=f"label_{measure.name}")


def _with_class(matches: ClassMatches) -> ClassMatches:
    """Without the detections in images that have no true box of the class."""
    kept = matches.num_true[matches.image] > 0
    return replace(
        matches,
        scores=matches.scores[kept],
        image=matches.image[kept],
        hit=matches.hit[:, kept],
        ignored=matches.ignored[:, kept],
    )


def true_boxes(matches: Sequence[ClassMatches]) -> Floats:
    """(I, K) true boxes of each image and class."""
    num_images = len(matches[0].num_true) if matches else 0
    return np.array([m.num_true for m in matches], dtype=np.float64).reshape(len(matches), num_images).T


def main_ap_measure(truth: CocoBoxes, detections: CocoBoxes) -> Measure:
    """AP at the main IoU, "ap40", where no other threshold is needed. Raises UserError as `IndexedDetections` does."""
    return ap_measure(IndexedDetections(truth, detections).match((MAIN_IOU,)), MAIN_IOU)


@dataclass(frozen=True)
class DetectionResult:
    """AP of one set of detections without intervals. matches: one per class, in the truth's order."""

    image_ids: tuple[str, ...]
    matches: tuple[ClassMatches, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        return tuple(match.finding for match in self.matches)

    def ap(self, iou: float) -> dict[str, float]:
        """AP of each class in [0, 1] at one of the matched thresholds."""
        return self._values(ap_measure(self.matches, iou))

    def mean_ap(self, iou: float) -> float:
        """Mean of `ap(iou)` over the classes with true boxes."""
        return float(mean_over_classes(np.array(list(self.ap(iou).values()))))

    def ap5095(self) -> dict[str, float]:
        """AP of each class averaged over IoU .50 to .95."""
        return self._values(ap5095_measure(self.matches))

    def mean_ap5095(self) -> float:
        """Mean of `ap5095()` over the classes with true boxes."""
        return float(mean_over_classes(np.array(list(self.ap5095().values()))))

    def _values(self, measure: Measure) -> dict[str, float]:
        values = measure.values(len(self.image_ids))
        return dict(zip(measure.findings, values.tolist(), strict=True))


def evaluate(truth: CocoBoxes, detections: CocoBoxes, *, ious: tuple[float, ...] = IOUS) -> DetectionResult:
    """Score detections as COCO does: all box sizes, at most 100 detections per image and class.

    Images and classes are those of the truth; its optional column "iscrowd" marks ignore regions.

        evaluate(read_coco(truth_path), read_coco(detections_path)).mean_ap(0.4)

    Raises UserError for detections of unknown images or classes, or without a finite score.
    """
    boxes = IndexedDetections(truth, detections)
    return DetectionResult(tuple(boxes.true.image_ids), boxes.match(ious))


class HitRanking:
    """Ranked detections of one class, summed up to each of its H hits.

    Precision only falls between hits, so a curve needs only its values at the hits.
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
        return np.asarray((self._true @ block)[0], dtype=np.int32)

    def hits(self, block: Block) -> Block:
        """(I, B) -> (H, B) number of hits up to and including each hit."""
        return np.cumsum(block[self.hit_image], axis=0, dtype=np.int32)

    def precision_envelope(self, block: Block, hits: Block) -> Floats:
        """(H, B) highest precision at each hit or any later one. hits: `hits(block)`."""
        seen = np.cumsum(self._seen @ block, axis=0, dtype=np.int32)
        precision = hits / np.maximum(seen, 1, out=seen)
        return np.maximum.accumulate(precision[::-1], axis=0)[::-1]


def num_true_row(num_true: Ints) -> csr_array:
    """(I,) true boxes of each image as a sparse (1, I) matrix; times a block it gives those of each resample."""
    return csr_array(num_true[None].astype(np.int32))


def sum_rows(rows: Ints, images: Ints, *, shape: tuple[int, int]) -> csr_array:
    """Sparse matrix that adds up the weights of each row's images; rows from shape[0] on are dropped."""
    kept = rows < shape[0]
    ones = np.ones(int(kept.sum()), dtype=np.int32)
    return csr_array((ones, (rows[kept], images[kept])), shape=shape, dtype=np.int32)


def ap_figure(matches: ClassMatches, iou: float) -> Callable[[Block], Floats]:
    """AP of one class as a function for `over_blocks`; equal scores keep the order of the images."""
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
    """(H, B) how many of RECALLS are at most hits / num_true: a faster np.searchsorted, exact for whole numbers."""
    hundredths = hits * 100.0 / np.maximum(num_true, 1)
    level = hundredths.astype(np.intp)
    reached: Floats = level + 1.0 - (_LATE.take(level) & (level == hundredths))
    return reached


def average_precisions(
    found: Detections,
    truth: TrueBoxes,
    *,
    num_sets: int,
    ious: tuple[float, ...],
    counts: Sequence[int] = (MAX_DETECTIONS,),
) -> Floats:
    """AP of many sets of detections on the same images, matched together, for a search over box rules.

    Args:
        found: detections of all S sets; image i of set s is s * truth.num_images + i.
        ious: T thresholds.
        counts: C numbers; each gives an AP of only that many best detections per image.

    Returns:
        (T, S, C) in [0, 1]; NaN where the truth has no box to be found.
    """
    num_true = int(truth.num_true.sum())
    if not num_true:
        return np.full((len(ious), num_sets, len(counts)), np.nan)
    ranked = found.ranked(max(counts))
    hit, ignored = greedy_hits(ranked, truth.repeated(num_sets), ious=ious)
    number = ranked.image // truth.num_images
    order = np.lexsort((-ranked.scores, number))  # the earlier image first on ties, as in COCO
    number, place = number[order], place_in_group(ranked.image)[order]
    aps = np.zeros((len(ious), num_sets, len(counts)))
    for level in range(len(ious)):
        hit_here, ignored_here = hit[level, order], ignored[level, order]
        for column, count in enumerate(counts):
            kept = (place < count) & ~ignored_here
            of_kept, is_hit = number[kept], hit_here[kept]
            seen, of_hits = place_in_group(of_kept)[is_hit] + 1, of_kept[is_hit]
            rank = place_in_group(of_hits) + 1
            aps[level, :, column] = _areas(of_hits, rank, rank / seen, shape=(num_sets, num_true))
    return aps


def _areas(number: Ints, hits: Ints, precision: Floats, *, shape: tuple[int, int]) -> Floats:
    """(S,) COCO's area under each of S curves; the n-th hit reaches the recall levels up to n / number of true boxes.

    number, hits, precision: (H,) set of each hit, its rank in the set from 1, and the precision there. shape: S and the
    number of true boxes.
    """
    curves = np.zeros(shape)
    curves[number, hits - 1] = precision
    envelopes = np.maximum.accumulate(curves[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALLS, np.arange(1, shape[1] + 1) / shape[1], side="right")
    return np.asarray(envelopes @ np.diff(reached, prepend=0) / len(RECALLS), dtype=np.float64)

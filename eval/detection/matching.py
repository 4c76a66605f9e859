"""COCO's greedy matching of detections to true boxes, all images of a class at a time.

Within an image and class the detection with the best score is matched first, to the free true box of highest IoU (the
later one on ties). A detection that has no match and lies in a crowd region ("iscrowd") is ignored: it counts neither
as right nor as wrong, and a region can absorb any number of detections.

Source: Lin et al., Microsoft COCO, ECCV 2014, as implemented by `COCOeval.evaluateImg` of pycocotools 2.0. The tests
compare the matches with pycocotools.
"""

from dataclasses import dataclass

import numpy as np

from cxr.arrays import Bools, Floats, Ints
from cxr.boxes import iobb_pairs, iou_pairs

MAIN_IOU = 0.4
"""The IoU from which on a box counts as found, in all main figures (VinBigData's threshold)."""

COCO_IOUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
IOUS = (0.1, 0.3, MAIN_IOU, *COCO_IOUS)

MAX_DETECTIONS = 100
"""COCO's cap on detections per image and class."""

HIGHEST_IOU = 1 - 1e-10
"""Thresholds are capped here, as in pycocotools, so that a threshold of 1 tolerates rounding."""

MAX_PAIRS = 2_000_000
"""Upper bound of pairs (detection, true box) whose IoU is held in memory at once; about 200 MB."""


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class with their matches at T IoU thresholds, sorted by image and falling score.

    scores: (D,). image: (D,) index of the image. hit: (T, D) whether the detection found a true box. ignored: (T, D)
    whether it counts neither as right nor as wrong. num_true: (I,) true boxes of the class in each image. is_read: (I,)
    whether somebody looked for the class in the image; None: in every image.
    """

    finding: str
    ious: tuple[float, ...]
    scores: Floats
    image: Ints
    hit: Bools
    ignored: Bools
    num_true: Ints
    is_read: Bools | None = None

    @property
    def read_images(self) -> Floats:
        """(I,) 1 for an image in which somebody looked for the class, else 0."""
        read = np.ones(len(self.num_true)) if self.is_read is None else self.is_read.astype(np.float64)
        return np.asarray(read)

    def ranked(self, iou: float) -> tuple[Floats, Ints, Bools]:
        """Score, image and hit flag of the detections that are not ignored, best score first; ties keep their order.

        ValueError for a threshold that was not matched.
        """
        t = next((index for index, known in enumerate(self.ious) if abs(known - iou) < 1e-9), None)
        if t is None:
            raise ValueError(f"no matches at IoU {iou}; matched at {list(self.ious)}")
        kept = np.flatnonzero(~self.ignored[t])
        order = kept[np.argsort(-self.scores[kept], kind="stable")]
        return self.scores[order], self.image[order], self.hit[t][order]


@dataclass(frozen=True)
class TrueBoxes:
    """True boxes of one class in I images.

    image: (G,) index of the image, rising. boxes: (G, 4). crowd: (G,) whether the box is a crowd region. num_images: I.
    """

    image: Ints
    boxes: Floats
    crowd: Bools
    num_images: int

    @property
    def counted(self) -> Bools:
        """(G,) True for boxes that count: not crowd regions and, as in pycocotools, not of negative area."""
        return ~(self.crowd | (_signed_area(self.boxes) < 0))

    @property
    def num_true(self) -> Ints:
        """(I,) boxes that count in each image."""
        return np.bincount(self.image[self.counted], minlength=self.num_images).astype(np.int64)

    def repeated(self, times: int) -> "TrueBoxes":
        """The same images once per set of detections; image i of set s becomes image s * I + i."""
        shift = np.repeat(np.arange(times) * self.num_images, len(self.image))
        return TrueBoxes(
            np.tile(self.image, times) + shift,
            np.tile(self.boxes, (times, 1)),
            np.tile(self.crowd, times),
            times * self.num_images,
        )


@dataclass(frozen=True)
class Detections:
    """Scored boxes of one class. image: (D,) index of the image, in any order. boxes: (D, 4). scores: (D,)."""

    image: Ints
    boxes: Floats
    scores: Floats

    def order(self, max_detections: int = MAX_DETECTIONS) -> Ints:
        """Indices by image, within an image by falling score (ties keep their order); the best of each image only."""
        order = np.lexsort((-self.scores, self.image))
        return order[place_in_group(self.image[order]) < max_detections]

    def ranked(self, max_detections: int = MAX_DETECTIONS) -> "Detections":
        """The detections in the order of `order`."""
        kept = self.order(max_detections)
        return Detections(self.image[kept], self.boxes[kept], self.scores[kept])


def match_class(
    finding: str, found: Detections, truth: TrueBoxes, *, ious: tuple[float, ...], max_detections: int = MAX_DETECTIONS
) -> ClassMatches:
    """The matches of one class."""
    ranked = found.ranked(max_detections)
    hit, ignored = greedy_hits(ranked, truth, ious=ious)
    return ClassMatches(finding, tuple(ious), ranked.scores, ranked.image, hit, ignored, truth.num_true)


def greedy_hits(ranked: Detections, truth: TrueBoxes, *, ious: tuple[float, ...]) -> tuple[Bools, Bools]:
    """Match ranked detections of one class: (T, D) whether each found a true box, (T, D) whether it is ignored.

    Images are independent, so the n-th best detections of all images are matched in one step.
    """
    levels = np.minimum(np.asarray(ious, dtype=np.float64), HIGHEST_IOU)
    detection, true, iou = _pairs(ranked, truth, float(levels.min(initial=np.inf)))
    place = place_in_group(ranked.image)[detection]
    counted = truth.counted
    # A detection is matched to the last free one of its pairs: pairs are sorted regions first, then by IoU.
    order = np.lexsort((true, iou, counted[true], detection, place))
    detection, true, iou = detection[order], true[order], iou[order]
    hit = np.zeros((len(levels), len(ranked.image)), dtype=np.bool_)
    ignored, taken = hit.copy(), np.zeros((len(levels), len(truth.image)), dtype=np.bool_)
    ends = np.flatnonzero(np.diff(place[order], append=-1)) + 1
    for own in map(slice, np.r_[0, ends[:-1]], ends):
        d, g = detection[own], true[own]
        is_free = (iou[own] >= levels[:, None]) & (~taken[:, g] | truth.crowd[g])
        firsts = np.flatnonzero(np.diff(d, prepend=-1))
        last = np.maximum.reduceat(np.where(is_free, np.arange(len(d)), -1), firsts, axis=1)
        level, group = np.nonzero(last >= 0)
        d, g = d[last[level, group]], g[last[level, group]]
        hit[level, d], ignored[level, d] = counted[g], ~counted[g]
        taken[level, g] = True
    # pycocotools ignores unmatched detections outside its area range, 0 to infinity.
    ignored |= ~hit & (_signed_area(ranked.boxes) < 0)
    return hit, ignored


def _pairs(ranked: Detections, truth: TrueBoxes, least_iou: float) -> tuple[Ints, Ints, Floats]:
    """All pairs in one image with at least this IoU: (P,) indices of detections and true boxes, and their IoU."""
    start = np.searchsorted(truth.image, ranked.image)
    count = np.searchsorted(truth.image, ranked.image, side="right") - start
    block = np.cumsum(count) // MAX_PAIRS
    parts = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))]
    for number in np.unique(block):
        own = np.flatnonzero((block == number) & (count > 0))
        detection = np.repeat(own, count[own])
        true = np.repeat(start[own], count[own]) + place_in_group(detection)
        boxes = (ranked.boxes[detection], truth.boxes[true])
        iou = np.where(truth.crowd[true], iobb_pairs(*boxes), iou_pairs(*boxes))
        kept = iou >= least_iou
        parts.append((detection[kept], true[kept], iou[kept]))
    detections, trues, overlaps = (np.concatenate(column) for column in zip(*parts, strict=True))
    return detections, trues, overlaps


def place_in_group(groups: Ints) -> Ints:
    """(D,) 0, 1, 2, ... within each run of equal values: [4, 4, 7] -> [0, 1, 0]."""
    first = np.flatnonzero(np.diff(groups, prepend=groups[0] - 1)) if len(groups) else groups
    places: Ints = np.arange(len(groups)) - np.repeat(first, np.diff(first, append=len(groups)))
    return places


def _signed_area(boxes: Floats) -> Floats:
    area: Floats = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return area

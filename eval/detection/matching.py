"""COCO's greedy matching in numpy, all images at a time: what a search over thousands of box rules can afford.

`eval.detection.coco_ap` (pycocotools) stays the judge of what is reported; this is held to it exactly by
tests/eval/detection/test_matching.py. Source: Lin et al., Microsoft COCO, 2014, as pycocotools 2.0 has it in
COCOeval.evaluateImg: within an image and class the best score goes first and takes, of the true boxes that are left,
the one of highest IoU, of equals the later; a region (iscrowd) takes what no true box does, as often as it comes, and
what it takes is neither right nor wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.arrays import Bools, Floats, Ints
from cxr.coco import CocoBoxes
from eval.detection.average_precision import RECALLS, ClassMatches
from eval.detection.coco_ap import IOUS, MAX_DETECTIONS, check_predictions

HIGHEST_IOU = 1 - 1e-10
"""pycocotools asks for no more, so that a threshold of 1 forgives rounding."""

MAX_PAIRS = 2_000_000
"""Upper bound of (detection, true box) pairs whose IoU is held at once; some 200 MB."""


@dataclass(frozen=True)
class TrueBoxes:
    """True boxes of one class over I images.

    image: (G,) row of the image, rising. boxes: (G, 4) xyxy pixels. crowd: (G,) regions. num_images: I.
    """

    image: Ints
    boxes: Floats
    crowd: Bools
    num_images: int

    @property
    def counted(self) -> Bools:
        """(G,) what a detector ought to find; like pycocotools not a region, nor a box of negative area."""
        return ~(self.crowd | (_signed_area(self.boxes) < 0))

    @property
    def num_true(self) -> Ints:
        """(I,) boxes to find in each image."""
        return np.bincount(self.image[self.counted], minlength=self.num_images).astype(np.int64)

    def repeated(self, times: int) -> "TrueBoxes":
        """The images once for each of several sets of detections: set s's image i is s * I + i."""
        shift = np.repeat(np.arange(times) * self.num_images, len(self.image))
        return TrueBoxes(
            np.tile(self.image, times) + shift,
            np.tile(self.boxes, (times, 1)),
            np.tile(self.crowd, times),
            times * self.num_images,
        )


@dataclass(frozen=True)
class Detections:
    """Scored boxes of one class. image: (D,) row of the image, any order. boxes: (D, 4) xyxy pixels. scores: (D,)."""

    image: Ints
    boxes: Floats
    scores: Floats

    def ranked(self, max_detections: int = MAX_DETECTIONS) -> "Detections":
        """By image, within an image by falling score (of equals in the order given), at most so many an image."""
        order = np.lexsort((-self.scores, self.image))
        kept = order[place_in_group(self.image[order]) < max_detections]
        return Detections(self.image[kept], self.boxes[kept], self.scores[kept])


def match_boxes(
    truth: CocoBoxes,
    predictions: CocoBoxes,
    *,
    ious: tuple[float, ...] = IOUS,
    max_detections: int = MAX_DETECTIONS,
) -> tuple[ClassMatches, ...]:
    """The same matches, one a class, as `eval.detection.coco_ap.evaluate(...).matches`, without pycocotools.

    Images and classes are those of the truth; its column "iscrowd", where there is one, marks regions.

    Raises:
        UserError: predictions name unknown images or classes, or lack a finite score.
    """
    check_predictions(truth, predictions)
    true, found = true_boxes(truth), detections(truth, predictions.boxes)
    return tuple(
        match_class(name, found[k], true[k], ious=ious, max_detections=max_detections)
        for k, name in enumerate(truth.findings)
    )


def match_class(
    finding: str,
    found: Detections,
    truth: TrueBoxes,
    *,
    ious: tuple[float, ...],
    max_detections: int = MAX_DETECTIONS,
) -> ClassMatches:
    """Matches of one class, detections in COCO's order."""
    ranked = found.ranked(max_detections)
    hit, ignored = greedy_hits(ranked, truth, ious=ious)
    return ClassMatches(finding, tuple(ious), ranked.scores, ranked.image, hit, ignored, truth.num_true)


def average_precisions(
    found: Detections,
    truth: TrueBoxes,
    *,
    num_sets: int,
    ious: tuple[float, ...],
    counts: Sequence[int] = (MAX_DETECTIONS,),
) -> Floats:
    """(T, S, C) AP of several sets of detections over the same images, matched together.

    Args:
        found: `image` of set s counts from s * truth.num_images.
        counts: detections an image that count, the best; C numbers, each of which gives an AP. What a detection is
            matched to does not depend on those after it, so all of them share one matching.

    Returns:
        values in [0, 1]; all NaN where the truth has no box to find.
    """
    num_true = int(truth.num_true.sum())
    if not num_true:
        return np.full((len(ious), num_sets, len(counts)), np.nan)
    ranked = found.ranked(max(counts))
    hit, ignored = greedy_hits(ranked, truth.repeated(num_sets), ious=ious)
    number = ranked.image // truth.num_images
    order = np.lexsort((-ranked.scores, number))  # of equal scores the earlier image first, as COCO has it
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
    """(S,) COCO's area under each of S curves.

    Precision falls at every false positive, so the values at hits fix its envelope; and the n-th hit of any set reaches
    the same levels of recall, those up to n / true boxes.

    Args:
        number, hits, precision: (H,) set, rank from 1 among the set's hits, and precision, of each hit.
        shape: S, and number of true boxes.
    """
    curves = np.zeros(shape)
    curves[number, hits - 1] = precision
    envelopes = np.maximum.accumulate(curves[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALLS, np.arange(1, shape[1] + 1) / shape[1], side="right")
    return np.asarray(envelopes @ np.diff(reached, prepend=0) / len(RECALLS), dtype=np.float64)


def greedy_hits(ranked: Detections, truth: TrueBoxes, *, ious: tuple[float, ...]) -> tuple[Bools, Bools]:
    """(T, D) whether each detection found a true box, and whether it is ignored; detections as `ranked` gives them.

    Images do not touch each other, so all detections of one place in their image are matched at a time.
    """
    levels = np.minimum(np.asarray(ious, dtype=np.float64), HIGHEST_IOU)
    detection, true, iou = _pairs(ranked, truth, float(levels.min(initial=np.inf)))
    place = place_in_group(ranked.image)[detection]
    counted = truth.counted
    # The last pair of a detection that is still to be had is its match: true boxes after regions, then by IoU.
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
    # Beyond pycocotools' area range of 0 to infinity.
    ignored |= ~hit & (_signed_area(ranked.boxes) < 0)
    return hit, ignored


def _pairs(ranked: Detections, truth: TrueBoxes, least_iou: float) -> tuple[Ints, Ints, Floats]:
    """Indices of detections and true boxes of the same image with at least this IoU, and the IoU; (P,) each."""
    start = np.searchsorted(truth.image, ranked.image)
    count = np.searchsorted(truth.image, ranked.image, side="right") - start
    block = np.cumsum(count) // MAX_PAIRS
    parts = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))]
    for number in np.unique(block):
        own = np.flatnonzero((block == number) & (count > 0))
        detection = np.repeat(own, count[own])
        true = np.repeat(start[own], count[own]) + place_in_group(detection)
        iou = coco_iou(ranked.boxes[detection], truth.boxes[true], truth.crowd[true])
        kept = iou >= least_iou
        parts.append((detection[kept], true[kept], iou[kept]))
    detections, trues, overlaps = (np.concatenate(column) for column in zip(*parts, strict=True))
    return detections, trues, overlaps


def coco_iou(found: Floats, true: Floats, crowd: Bools) -> Floats:
    """(P,) IoU of (P, 4) with (P, 4) boxes, with a region the share of the detection inside it, rounded as in
    pycocotools, which adds up corners from x, y, width and height."""
    found_wh, true_wh = found[:, 2:] - found[:, :2], true[:, 2:] - true[:, :2]
    high = np.minimum(found_wh + found[:, :2], true_wh + true[:, :2])
    sides = high - np.maximum(found[:, :2], true[:, :2])
    shared = sides[:, 0] * sides[:, 1]
    found_area, true_area = found_wh[:, 0] * found_wh[:, 1], true_wh[:, 0] * true_wh[:, 1]
    whole = np.where(crowd, found_area, found_area + true_area - shared)
    iou: Floats = np.zeros(len(shared))
    np.divide(shared, whole, out=iou, where=(sides > 0).all(axis=1))
    return iou


def place_in_group(groups: Ints) -> Ints:
    """(D,) 0, 1, 2, ... within each run of equal values: [4, 4, 7] -> [0, 1, 0]."""
    first = np.flatnonzero(np.diff(groups, prepend=groups[0] - 1)) if len(groups) else groups
    places: Ints = np.arange(len(groups)) - np.repeat(first, np.diff(first, append=len(groups)))
    return places


def true_boxes(truth: CocoBoxes) -> tuple[TrueBoxes, ...]:
    """The true boxes of each class, within an image in the table's order."""
    crowd = truth.boxes["iscrowd"].to_numpy(dtype=int) > 0 if "iscrowd" in truth.boxes else None
    is_crowd = np.zeros(len(truth.boxes), dtype=np.bool_) if crowd is None else crowd
    image, finding, boxes = _columns(truth, truth.boxes)
    chosen = [_of_class(image, finding, k) for k in range(len(truth.findings))]
    return tuple(TrueBoxes(image[own], boxes[own], is_crowd[own], len(truth.images)) for own in chosen)


def detections(truth: CocoBoxes, table: pd.DataFrame) -> list[Detections]:
    image, finding, boxes = _columns(truth, table)
    scores = table["score"].to_numpy(dtype=np.float64) if len(table) else np.zeros(0)
    chosen = [np.flatnonzero(finding == k) for k in range(len(truth.findings))]
    return [Detections(image[own], boxes[own], scores[own]) for own in chosen]


def _of_class(image: Ints, finding: Ints, k: int) -> npt.NDArray[np.intp]:
    own = np.flatnonzero(finding == k)
    return own[np.argsort(image[own], kind="stable")]


def _columns(truth: CocoBoxes, table: pd.DataFrame) -> tuple[Ints, Ints, Floats]:
    """Rows of the truth's images and classes, and boxes (D, 4)."""
    number_of = {str(name): i for i, name in enumerate(truth.images["image_id"])}
    class_of = {str(name): k for k, name in enumerate(truth.findings)}
    image = np.array([number_of[str(name)] for name in table["image_id"]], dtype=np.int64)
    finding = np.array([class_of[str(name)] for name in table["finding"]], dtype=np.int64)
    return image, finding, table[["x1", "y1", "x2", "y2"]].to_numpy(dtype=np.float64).reshape(-1, 4)


def _signed_area(boxes: Floats) -> Floats:
    area: Floats = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return area

"""Average precision as PASCAL VOC 2010 and Kaggle's VinBigData competition count it.

Source: Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, IJCV 2010, section 4.2, and
the development kit of 2010 (area under the whole curve instead of 11 points). Coordinates are
continuous here, without the kit's extra pixel. Ignore regions (iscrowd) are read as COCO reads them: a
detection that is right nowhere and lies in one with a share of at least the threshold counts neither as
right nor as wrong.
"""

from collections.abc import Callable, Mapping

import numpy as np

from cxr.arrays import Floats, mean_over_classes
from cxr.boxes import CORNERS, as_boxes
from cxr.coco import CocoBoxes
from eval.detection.average_precision import HitRanking
from eval.detection.coco_ap import check_predictions
from eval.detection.overlaps import TruthIndex
from eval.stats.bootstrap import Block, Counts, over_blocks
from eval.stats.measures import Measure


def voc_measure(truth: CocoBoxes, predictions: CocoBoxes, *, iou: float = 0.4) -> Measure:
    """AP of each class as `voc_ap` defines it, for resampling; name "voc40" at .4."""
    check_predictions(truth, predictions)
    true, found = TruthIndex(truth), predictions.boxes.sort_values("score", ascending=False, kind="stable")
    cells = true.cells(found)
    corners = as_boxes(found[CORNERS].to_numpy(dtype=np.float64))
    overlap, which = true.best(cells, corners)
    good = np.flatnonzero(overlap >= iou)
    good = good[which[good] >= 0]
    _, first = np.unique(which[good], return_index=True)
    is_hit = np.zeros(len(cells), dtype=bool)
    is_hit[good[first]] = True
    regions = TruthIndex(truth.with_boxes(truth.boxes[truth.is_ignored].assign(iscrowd=0)))
    inside, _ = regions.best(cells, corners, overlap="iobb")
    judged = is_hit | (inside < iou)
    cells, is_hit = cells[judged], is_hit[judged]
    image, finding = cells // true.shape[1], cells % true.shape[1]
    figures = [
        _area_figure(HitRanking(image[finding == k], is_hit[finding == k], num_true))
        for k, num_true in enumerate(true.num_true.T)
    ]

    def resampled(counts: Counts) -> Floats:
        return over_blocks(counts, figures)

    return Measure(f"voc{round(100 * iou)}", true.findings, resampled)


def voc_ap(truth: CocoBoxes, predictions: CocoBoxes, *, iou: float = 0.4) -> dict[str, float]:
    """AP of each class: area under the precision envelope over recall.

    Unlike COCO, a detection is compared only with the true box that it overlaps most (a second one
    on the same box is wrong), detections are not capped, and the area is exact instead of sampled
    at 101 recalls. Returns NaN for a class without a true box. Raises UserError as `evaluate` does.
    """
    measure = voc_measure(truth, predictions, iou=iou)
    return dict(zip(measure.findings, measure.values(len(truth.images)).tolist(), strict=True))


def voc_mean(aps: Mapping[str, float]) -> float:
    """Mean over the classes that have true boxes; NaN if none has."""
    return float(mean_over_classes(np.array(list(aps.values()), dtype=np.float64)))


def _area_figure(ranking: HitRanking) -> Callable[[Block], Floats]:
    """Area under the precision envelope: each hit adds its precision (or a later, higher one) over the true boxes."""

    def figure(block: Block) -> Floats:
        num_true, hits = ranking.num_true(block), ranking.hits(block)
        total = np.einsum("hb,hb->b", ranking.precision_envelope(block, hits), block[ranking.hit_image])
        return np.where(num_true > 0, total / np.maximum(num_true, 1), np.nan)

    return figure

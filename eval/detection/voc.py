"""Average precision as PASCAL VOC 2010 and Kaggle's VinBigData competition compute it.

It differs from COCO's AP in three ways. A detection is compared only with the true box that it overlaps most, and a
second detection of that box is wrong. The number of detections is not limited. The area under the precision envelope is
exact, not sampled at 101 recall levels. Coordinates are continuous, without the development kit's extra pixel. A
detection that hits no true box and has at least the threshold's share of its area in an ignore region does not count.

Source: Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, IJCV 2010, section 4.2, and the development
kit of 2010 (area under the whole curve instead of 11 points).
"""

from collections.abc import Callable

import numpy as np

from cxr.arrays import Floats
from eval.detection.average_precision import HitRanking
from eval.detection.indexed import IndexedDetections
from eval.detection.matching import MAIN_IOU
from eval.stats.bootstrap import Block
from eval.stats.measures import Measure, blocks_measure


def voc_measure(boxes: IndexedDetections, *, iou: float = MAIN_IOU) -> Measure:
    """VOC's AP of each class in [0, 1]; the measure's name is "voc40" at .4. NaN for a class without a true box."""
    true, order = boxes.true, np.argsort(-boxes.scores, kind="stable")
    cells, corners = boxes.cell[order], boxes.boxes[order]
    overlap, which = true.real.best(cells, corners)
    good = np.flatnonzero((overlap >= iou) & (which >= 0))
    _, first = np.unique(which[good], return_index=True)
    is_hit = np.zeros(len(cells), dtype=bool)
    is_hit[good[first]] = True
    inside, _ = true.regions.best(cells, corners, overlap="iobb")
    counted = is_hit | (inside < iou)
    cells, is_hit = cells[counted], is_hit[counted]
    image, finding = cells // true.shape[1], cells % true.shape[1]
    figures = [
        _area_figure(HitRanking(image[finding == k], is_hit[finding == k], num_true))
        for k, num_true in enumerate(true.num_true.T)
    ]
    cases = true.num_true.astype(np.float64)
    return blocks_measure(f"voc{round(100 * iou)}", true.findings, figures, cases=cases)


def _area_figure(ranking: HitRanking) -> Callable[[Block], Floats]:
    """Area under the precision envelope: each hit adds the highest precision from there on, over the true boxes."""

    def figure(block: Block) -> Floats:
        num_true, hits = ranking.num_true(block), ranking.hits(block)
        total = np.einsum("hb,hb->b", ranking.precision_envelope(block, hits), block[ranking.hit_image])
        return np.where(num_true > 0, total / np.maximum(num_true, 1), np.nan)

    return figure

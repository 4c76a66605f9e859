"""Agreement of readers of the same images: who marks a class, whose box is found, how well boxes overlap.

Each figure is hits over cases, both counted per image, so that a bootstrap only re-weights images. An image with a
single reader has no cases; a class without cases is NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.arrays import Floats
from eval.detection.matching import MAIN_IOU
from eval.detection.pairing import box_pairs, sums_by_cell
from eval.stats.measures import Measure, share_measure


@dataclass(frozen=True)
class Reads:
    """Boxes and readings of I images.

    boxes: columns image_id, finding, x1, y1, x2, y2, reader. readings: columns image_id, reader, also for readers who
    marked nothing. findings: K classes with boxes.
    """

    boxes: pd.DataFrame
    readings: pd.DataFrame
    image_ids: Sequence[str]
    findings: Sequence[str]

    def num_readers(self) -> Floats:
        """(I,) readers of each image."""
        image = pd.Index(self.image_ids).get_indexer(pd.Index(self.readings["image_id"]))
        return np.bincount(image, minlength=len(self.image_ids)).astype(np.float64)

    def sums(self, boxes: pd.DataFrame, values: Floats | None = None) -> Floats:
        """(I, K) sums of `values` (one per row of `boxes`; None counts rows) by the rows' image and finding."""
        return sums_by_cell(boxes, self.image_ids, self.findings, values=values)


def agreement_measures(reads: Reads, *, iou: float = MAIN_IOU) -> tuple[Measure, Measure, Measure]:
    """`marks`, `found40` (40 is `iou` in hundredths) and `mean_best_iou`."""
    return _marks(reads), *_overlaps(reads, iou)


def _marks(reads: Reads) -> Measure:
    """Over ordered pairs of readers where the first marks the class: share where the second does, too."""
    others = reads.num_readers()[:, None] - 1
    marking = reads.sums(reads.boxes.drop_duplicates(["image_id", "reader", "finding"]))
    return share_measure("marks", reads.findings, marking * np.maximum(marking - 1, 0), marking * others)


def _overlaps(reads: Reads, iou: float) -> tuple[Measure, Measure]:
    """Over boxes and other readers of the image: share found, and mean best IoU where that reader marks the class."""
    boxes = reads.boxes.reset_index(drop=True)
    pairs = box_pairs(boxes, boxes, by=("image_id", "finding"))
    reader = np.unique(boxes["reader"].to_numpy(dtype=str), return_inverse=True)[1]
    pairs = pairs.select(reader[pairs.first] != reader[pairs.second])
    overlaps = pd.DataFrame({"box": pairs.first, "other": reader[pairs.second], "iou": pairs.iou})
    best = overlaps.groupby(["box", "other"], as_index=False)["iou"].max()
    rows, best_iou = boxes.iloc[best["box"].to_numpy(dtype=np.int64)], best["iou"].to_numpy(dtype=np.float64)
    cases = reads.sums(boxes) * (reads.num_readers()[:, None] - 1)
    found = reads.sums(rows, (best_iou >= iou).astype(np.float64))
    name = f"found{round(100 * iou)}"
    return (
        share_measure(name, reads.findings, found, cases),
        share_measure("mean_best_iou", reads.findings, reads.sums(rows, best_iou), reads.sums(rows)),
    )

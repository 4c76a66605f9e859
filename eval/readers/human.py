"""The human ceiling: the AP of each reader against the fused boxes of the other readers.

Readers give no scores, so a reader has one operating point. Its average precision is precision x (share of COCO's 101
recall levels that are reached). No ranking of the same boxes has a lower AP, and a method also gains by low-scored
guesses that a reader would never mark. So this AP understates readers, and precision and recall are reported with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.arrays import Floats
from cxr.readers import ReaderSettings, fuse_readers, readings_of
from eval.detection.average_precision import RECALLS
from eval.detection.matching import MAIN_IOU
from eval.detection.pairing import box_pairs, match_greedily, sums_by_cell
from eval.stats.bootstrap import Counts
from eval.stats.measures import Measure, share_measure


@dataclass(frozen=True)
class HumanCounts:
    """Sums over the readers of each image, (I, K) each, I images and K findings.

    hits: boxes of a reader that match a fused box of the others. marked: all boxes of the reader. true: fused boxes of
    the others.
    """

    findings: tuple[str, ...]
    hits: Floats
    marked: Floats
    true: Floats

    def ap(self) -> Measure:
        """ "ap40": precision x share of the 101 recall levels reached, of the counts summed over images and readers.

        NaN where a class has no true box, also where no image was read by two; 0 where readers marked none.
        """

        def resampled(images: Counts) -> Floats:
            hits, marked, true = (images @ values for values in (self.hits, self.marked, self.true))
            reached = np.searchsorted(RECALLS, hits / np.maximum(true, 1), side="right") / len(RECALLS)
            return np.where(true > 0, hits / np.maximum(marked, 1) * reached, np.nan)

        return Measure("ap40", self.findings, resampled, self.true)

    def precision(self) -> Measure:
        """ "precision40": share of the readers' boxes that the others confirm; NaN without a box."""
        return share_measure("precision40", self.findings, self.hits, self.marked)

    def recall(self) -> Measure:
        """ "recall40": share of the others' fused boxes that the reader marked as well; NaN without such a box."""
        return share_measure("recall40", self.findings, self.hits, self.true)


def human_counts(
    boxes: pd.DataFrame,
    image_ids: Sequence[str],
    *,
    findings: Sequence[str],
    settings: ReaderSettings,
    readings: pd.DataFrame | None = None,
) -> HumanCounts:
    """Compare each reader of each image with the other readers' boxes, fused as `settings` say, at IoU 0.4.

    With m other readers a fused box needs min(min_votes, m) votes; without `min_votes`, "majority" needs more than half
    of m (both of two), "union", "wbf" and "em" one. With the rule "single" the chosen reader is the ground truth of the
    others and is not scored. Boxes match in pairs of falling overlap, each at most once; further boxes are wrong.

    Args:
        boxes: columns image_id, finding, x1, y1, x2, y2, reader; boxes of a consensus (reader "") are ignored.
        image_ids: I images, the rows of the sums.
        readings: columns image_id, reader: who read what; None for `readings_of` the boxes.
    """
    if readings is None:
        readings = readings_of(boxes, num_readers=settings.num_readers)
    marked = boxes[(boxes["reader"] != "") & boxes["image_id"].isin(image_ids)]
    turns = _turns(readings[readings["image_id"].isin(image_ids)], settings)
    own = marked.merge(turns, on=["image_id", "reader"])
    truth = _truth_by_others(marked, turns, settings)
    own, truth = (table[table["finding"].isin(findings)] for table in (own, truth))
    hit = own.iloc[match_greedily(box_pairs(own, truth, by=("turn", "finding")), iou=MAIN_IOU)]
    return HumanCounts(tuple(findings), *(sums_by_cell(table, image_ids, findings) for table in (hit, own, truth)))


def _turns(readings: pd.DataFrame, settings: ReaderSettings) -> pd.DataFrame:
    """Columns image_id, reader, others (how many), turn (row number): one row per reader who is compared."""
    num_readers = readings.groupby("image_id")["reader"].transform("size")
    turns = readings.assign(others=num_readers - 1)
    if settings.rule == "single":
        with_truth = readings.loc[readings["reader"] == settings.reader, "image_id"]
        turns = turns[turns["image_id"].isin(with_truth) & (turns["reader"] != settings.reader)]
    turns = turns[turns["others"] > 0]
    return turns.assign(turn=np.arange(len(turns)))


def _truth_by_others(marked: pd.DataFrame, turns: pd.DataFrame, settings: ReaderSettings) -> pd.DataFrame:
    """Columns turn, image_id, finding, x1, y1, x2, y2: the other readers' boxes, fused for each turn."""
    seen = marked.merge(turns, on="image_id", suffixes=("", "_scored"))
    seen = seen[seen["reader"] != seen["reader_scored"]]
    if settings.rule == "single":
        return seen[seen["reader"] == settings.reader]
    numbers = sorted(set(seen["others"].tolist())) or [1]  # without boxes: an empty table with the right columns
    fused = [_fused(seen[seen["others"] == others], others, settings) for others in numbers]
    return pd.concat(fused, ignore_index=True).merge(turns[["turn", "image_id"]], on="turn")


def _fused(boxes: pd.DataFrame, others: int, settings: ReaderSettings) -> pd.DataFrame:
    """Fused boxes of the turns with this many other readers; each turn is fused as if it were an image."""
    votes = None if settings.min_votes is None else min(settings.min_votes, others)
    settings = settings.model_copy(update={"min_votes": votes, "num_readers": others})
    fused = fuse_readers(boxes.assign(image_id=boxes["turn"]), settings)
    return fused.rename(columns={"image_id": "turn"}).astype({"turn": np.int64})

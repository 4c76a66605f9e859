"""How well a person does on the scale of the methods: each reader in turn against the fused boxes of the others.

Readers give no scores, so a reader has one operating point and no ranking. The average precision of one point is its
precision at every recall level up to its recall and 0 beyond: precision x (share of COCO's 101 levels that are
reached). No ranking of the same boxes has a lower one, and a method's ranking also gains by guesses that a reader would
never draw: one point understates a ranking, so precision and recall are given beside it.
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

    hits: boxes of a reader that match one of the truth by the others. drawn: all of the reader's boxes. true: boxes of
    that truth, the reader's misses included.
    """

    findings: tuple[str, ...]
    hits: Floats
    drawn: Floats
    true: Floats


def human_measure(
    boxes: pd.DataFrame,
    image_ids: Sequence[str],
    *,
    findings: Sequence[str],
    settings: ReaderSettings,
    readings: pd.DataFrame | None = None,
) -> Measure:
    """ "ap40" of a reader, see `human_counts` and `ap_of_counts`; NaN where no image was read by two."""
    counts = human_counts(boxes, image_ids, findings=findings, settings=settings, readings=readings)
    return ap_of_counts(counts)


def human_counts(
    boxes: pd.DataFrame,
    image_ids: Sequence[str],
    *,
    findings: Sequence[str],
    settings: ReaderSettings,
    readings: pd.DataFrame | None = None,
) -> HumanCounts:
    """Each reader of each image against the others' boxes of the image, fused as `settings` say, at IoU 0.4.

    The truth of a reader is what `fuse_readers` makes of the other readers' boxes. With m others a box needs
    min(min_votes, m) votes; without `min_votes` majority asks for more than half of m (both of two), union and wbf
    for one. By rule single the chosen reader is the truth of the others and is not judged. Boxes match in pairs of
    falling overlap, each in one pair at most; further boxes on a matched one are wrong, as for detectors.

    Args:
        boxes: columns image_id, finding, x1, y1, x2, y2, reader; boxes of a consensus (reader "") are left out.
        image_ids: I images, the rows of the sums.
        readings: columns image_id, reader: who read what; as `readings_of` tells from the boxes when None.
    """
    if readings is None:
        readings = readings_of(boxes, num_readers=settings.num_readers)
    marked = boxes[(boxes["reader"] != "") & boxes["image_id"].isin(image_ids)]
    turns = _turns(readings[readings["image_id"].isin(image_ids)], settings)
    own = marked.merge(turns, on=["image_id", "reader"])
    truth = _truth_by_others(marked, turns, settings)
    own, truth = (table[table["finding"].isin(findings)] for table in (own, truth))
    hit = own.iloc[match_greedily(box_pairs(own, truth, by=("turn", "finding")), iou=MAIN_IOU)]
    hits, drawn, true = (sums_by_cell(table, image_ids, findings) for table in (hit, own, truth))
    return HumanCounts(tuple(findings), hits, drawn, true)


def _turns(readings: pd.DataFrame, settings: ReaderSettings) -> pd.DataFrame:
    """Columns image_id, reader, others (how many), turn (a number): every reader who is judged against others."""
    num_readers = readings.groupby("image_id")["reader"].transform("size")
    turns = readings.assign(others=num_readers - 1)
    if settings.rule == "single":
        with_truth = readings.loc[readings["reader"] == settings.reader, "image_id"]
        turns = turns[turns["image_id"].isin(with_truth) & (turns["reader"] != settings.reader)]
    turns = turns[turns["others"] > 0]
    return turns.assign(turn=np.arange(len(turns)))


def _truth_by_others(marked: pd.DataFrame, turns: pd.DataFrame, settings: ReaderSettings) -> pd.DataFrame:
    """Columns turn, image_id, finding, x1, y1, x2, y2: what the other readers' boxes make, for each turn."""
    seen = marked.merge(turns, on="image_id", suffixes=("", "_judged"))
    seen = seen[seen["reader"] != seen["reader_judged"]]
    if settings.rule == "single":
        return seen[seen["reader"] == settings.reader]
    numbers = sorted(set(seen["others"].tolist())) or [1]  # of no boxes, their fused form
    fused = [_fused(seen[seen["others"] == others], others, settings) for others in numbers]
    return pd.concat(fused, ignore_index=True).merge(turns[["turn", "image_id"]], on="turn")


def _fused(boxes: pd.DataFrame, others: int, settings: ReaderSettings) -> pd.DataFrame:
    """Fused boxes of turns with so many other readers; fusing sees each turn as an image of its own."""
    votes = None if settings.min_votes is None else min(settings.min_votes, others)
    settings = settings.model_copy(update={"min_votes": votes, "num_readers": others})
    fused = fuse_readers(boxes.assign(image_id=boxes["turn"]), settings)
    return fused.rename(columns={"image_id": "turn"}).astype({"turn": np.int64})


def ap_of_counts(counts: HumanCounts) -> Measure:
    """ "ap40": precision x share of the 101 recall levels reached, of the counts summed over images and readers.

    NaN where a class has no true box; 0 where it has, and no reader drew one.
    """

    def resampled(images: Counts) -> Floats:
        hits, drawn, true = (images @ values for values in (counts.hits, counts.drawn, counts.true))
        reached = np.searchsorted(RECALLS, hits / np.maximum(true, 1), side="right") / len(RECALLS)
        return np.where(true > 0, hits / np.maximum(drawn, 1) * reached, np.nan)

    return Measure("ap40", counts.findings, resampled)


def precision_of_counts(counts: HumanCounts) -> Measure:
    """ "precision40": share of the readers' boxes that the others confirm."""
    return share_measure("precision40", counts.findings, counts.hits, counts.drawn)


def recall_of_counts(counts: HumanCounts) -> Measure:
    """ "recall40": share of the others' fused boxes that the reader drew as well."""
    return share_measure("recall40", counts.findings, counts.hits, counts.true)

"""Boxes of several readers: fusion into one ground truth, and which reader read which image."""

import heapq
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, PositiveInt, model_validator

from cxr.arrays import Ints
from cxr.boxes import CORNERS, Corners, iou_of_two, weighted_boxes_fusion
from cxr.config import Settings, UserError
from cxr.reader_em import Marks, probability_real
from cxr.tables import MASK_COLUMN

FusionRule = Literal["union", "majority", "wbf", "em", "single"]
MIN_PROBABILITY = 0.5 - 1e-6
"""Rule em keeps boxes that are real with at least this probability: half, where rounding decides no tie."""

FUSED_COLUMNS = ["image_id", "finding", *CORNERS, "reader", "votes"]
READING_COLUMNS = ["image_id", "reader"]

log = logging.getLogger("raybox")


class ReaderSettings(Settings):
    """How the boxes of several readers become one ground truth. Boxes of a consensus (no reader) stay unchanged."""

    rule: FusionRule = "majority"
    """union: the box around each cluster. majority: the mean box of each cluster that more than half of the image's
    readers marked. wbf: weighted boxes fusion with equal weights. em: the mean box of each cluster that is real with
    a probability of at least .5, estimated by expectation-maximisation together with how often each reader misses and
    invents boxes. single: the boxes of one reader."""
    iou: float = Field(0.4, gt=0, le=1)
    """Boxes of two readers show the same finding if their IoU is at least this (wbf: above it)."""
    min_votes: PositiveInt | None = None
    """Boxes marked by fewer readers are dropped. None: for majority more than half of the image's readers, else 1."""
    num_readers: PositiveInt | None = None
    """Number of readers per image, if known (VinDr's train part: 3), since a box table lacks the readers who marked
    nothing. None: the readers with a box in the image, of any finding."""
    reader: str | None = None
    """For rule single: the reader whose boxes are the ground truth."""
    groups: dict[str, list[str]] = {}
    """Group name -> readers. Results are also reported for the test images of each group."""

    @model_validator(mode="after")
    def _check_rule(self) -> "ReaderSettings":
        if self.rule == "single" and not self.reader:
            raise ValueError("rule single needs `reader`, the name of the reader whose boxes are the ground truth")
        if self.rule != "single" and self.reader:
            raise ValueError(f"`reader` is for rule single, got rule {self.rule}; remove one of the two")
        if self.rule == "single" and self.min_votes:
            raise ValueError("rule single has one reader and no votes; remove `min_votes`")
        return self

    @model_validator(mode="after")
    def _check_groups(self) -> "ReaderSettings":
        listed = [reader for readers in self.groups.values() for reader in readers]
        twice = sorted({reader for reader in listed if listed.count(reader) > 1})
        if twice:
            raise ValueError(f"groups: {', '.join(twice)} listed more than once; a reader is in one group")
        return self


def fuse_readers(
    boxes: pd.DataFrame, settings: ReaderSettings, *, readers_of: Mapping[str, int] | None = None
) -> pd.DataFrame:
    """Fuse the boxes of several readers into one ground truth, for each image and finding.

    union, majority and em cluster the boxes: at first each box is a cluster; then the two clusters without a common
    reader whose mean boxes overlap most are merged, as long as their IoU is at least `iou`. So two boxes of one reader
    are never merged, except by wbf. The votes of a fused box are its distinct readers; see `ReaderSettings` for the
    rules and the votes that a box needs. Boxes of a consensus (reader "") stay unchanged and have no votes.

    Args:
        boxes: columns image_id, finding, x1, y1, x2, y2 (pixels), reader; all findings, so that all readers are known.
        readers_of: image id -> number of readers, if larger than `num_readers` and the number of readers with a box.

    Returns:
        Columns image_id, finding, x1, y1, x2, y2, reader (empty), votes (float, NaN for a consensus): the consensus
        first, then the fused boxes in the order in which image and finding first occur. Boxes that stay unchanged keep
        their masks (`cxr.tables.MASK_COLUMN`), fused ones have none.

    Raises:
        UserError: rule single, and no box is by that reader.
    """
    has_reader = (boxes["reader"] != "").to_numpy()
    consensus, marked = boxes[~has_reader], boxes[has_reader]
    if settings.rule == "single":
        fused = _with_votes(_boxes_of(marked, str(settings.reader)), votes=1.0)
    else:
        fused = _fuse(marked, settings, _num_readers(marked, settings, readers_of or {}))
    parts = [part for part in (_with_votes(consensus, votes=np.nan), fused) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else fused.reset_index(drop=True)


def _boxes_of(marked: pd.DataFrame, reader: str) -> pd.DataFrame:
    chosen = marked[marked["reader"] == reader]
    if len(marked) and chosen.empty:
        known = ", ".join(sorted(set(marked["reader"])))
        raise UserError(f"readers.reader: no box is by {reader!r}; the readers are {known}")
    return chosen


def _with_votes(boxes: pd.DataFrame, *, votes: float) -> pd.DataFrame:
    masks = [MASK_COLUMN] if MASK_COLUMN in boxes.columns else []
    return boxes.assign(reader="", votes=votes)[[*FUSED_COLUMNS, *masks]]


def _num_readers(marked: pd.DataFrame, settings: ReaderSettings, readers_of: Mapping[str, int]) -> Ints:
    """(N,) number of readers of each box's image."""
    marking = marked.groupby("image_id")["reader"].transform("nunique").to_numpy(dtype=np.int64)
    known = np.array([readers_of.get(image_id, 0) for image_id in marked["image_id"]], dtype=np.int64)
    number: Ints = np.maximum(np.maximum(marking, known), settings.num_readers or 0)
    return number


def _fuse(marked: pd.DataFrame, settings: ReaderSettings, num_readers: Ints) -> pd.DataFrame:
    fuse = _FUSIONS[settings.rule]
    of_majority = num_readers // 2 + 1 if settings.rule == "majority" else np.ones_like(num_readers)
    corners = marked[CORNERS].to_numpy(dtype=np.float64)
    names, image_ids, findings = (marked[column].to_numpy() for column in ("reader", "image_id", "finding"))
    rows: list[tuple[object, ...]] = []
    voters: list[set[str]] = []
    firsts: list[int] = []
    for members in _groups(marked):
        first = members[0]
        readers = names[members].tolist()
        for box, of in fuse([_corners(corners[m]) for m in members], readers, settings.iou):
            votes = {readers[i] for i in of}
            if len(votes) >= (settings.min_votes or of_majority[first]):
                rows.append((image_ids[first], findings[first], *box, "", float(len(votes))))
                voters.append(votes)
                firsts.append(first)
    table = pd.DataFrame(rows, columns=FUSED_COLUMNS).astype(dict.fromkeys([*CORNERS, "votes"], np.float64))
    if settings.rule != "em" or table.empty:
        return table
    real, _ = probability_real(_marks(table, voters, marked, num_readers[firsts]))
    return table[real >= MIN_PROBABILITY]


def _marks(table: pd.DataFrame, voters: Sequence[set[str]], marked: pd.DataFrame, num_readers: Ints) -> Marks:
    """Who marked each box of the table, and who read its image. num_readers: (C,) of that image."""
    readers = sorted(set(marked["reader"]))
    read_by = {image_id: set(own) for image_id, own in marked.groupby("image_id")["reader"]}
    has_marked = np.array([[reader in own for reader in readers] for own in voters])
    has_read = np.array([[reader in read_by[image_id] for reader in readers] for image_id in table["image_id"]])
    finding = np.unique(table["finding"].to_numpy(dtype=str), return_inverse=True)[1]
    return Marks(has_marked, has_read, num_readers - has_read.sum(axis=1), finding)


def _groups(marked: pd.DataFrame) -> Iterator[Ints]:
    """Positions of the boxes of each image and finding, in an order that does not depend on the order of rows."""
    number = marked.groupby(["image_id", "finding"], sort=False).ngroup().to_numpy(dtype=np.int64)
    reader = np.unique(marked["reader"].to_numpy(dtype=str), return_inverse=True)[1]
    x1, y1, x2, y2 = marked[CORNERS].to_numpy(dtype=np.float64).T
    order = np.lexsort((reader, y2, x2, y1, x1, number))
    starts = np.flatnonzero(np.diff(number[order])) + 1
    yield from (part for part in np.split(order, starts) if len(part))


def _corners(values: Sequence[float] | npt.NDArray[np.float64]) -> Corners:
    x1, y1, x2, y2 = map(float, values)
    return x1, y1, x2, y2


Fused = list[tuple[Corners, list[int]]]
"""Boxes and the members that each is made of."""


def _joined(boxes: list[Corners], readers: list[str], iou: float, *, join: Callable[[list[Corners]], Corners]) -> Fused:
    """The clusters of the boxes, each as the box that `join` makes of its members."""
    clusters = _clusters(boxes, readers, iou)
    return [(join([boxes[i] for i in members]), members) for members in clusters]


def _weighted(boxes: list[Corners], readers: list[str], iou: float) -> Fused:
    if len(boxes) == 1:
        return [(boxes[0], [0])]
    fused, _, members = weighted_boxes_fusion(boxes, np.ones(len(readers)), iou=iou)
    return [(_corners(box), of) for box, of in zip(fused, members, strict=True)]


def _clusters(boxes: list[Corners], readers: list[str], iou: float) -> list[list[int]]:
    """Members of each cluster, see `fuse_readers`; plain numbers, because nearly all groups have one to three boxes."""
    members = {i: [i] for i in range(len(boxes))}
    means = dict(enumerate(boxes))
    pairs: list[tuple[float, int, int]] = []

    def offer(new: int, others: Sequence[int]) -> None:
        for other in others:
            overlap = iou_of_two(means[new], means[other])
            shared = {readers[i] for i in members[new]} & {readers[i] for i in members[other]}
            if overlap >= iou and not shared:
                heapq.heappush(pairs, (-overlap, other, new))

    for i in range(1, len(boxes)):
        offer(i, range(i))
    number = len(boxes)
    while pairs:
        _, a, b = heapq.heappop(pairs)
        if a not in members or b not in members:
            continue
        merged = sorted(members.pop(a) + members.pop(b))
        means[number] = _mean([boxes[i] for i in merged])
        others = list(members)
        members[number] = merged
        offer(number, others)
        number += 1
    return sorted(members.values())


def _mean(boxes: list[Corners]) -> Corners:
    return _corners([sum(values) / len(boxes) for values in zip(*boxes, strict=True)])


def _enclosing(boxes: list[Corners]) -> Corners:
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return min(x1), min(y1), max(x2), max(y2)


_FUSIONS: Mapping[str, Callable[[list[Corners], list[str], float], Fused]] = {
    "union": partial(_joined, join=_enclosing),
    "majority": partial(_joined, join=_mean),
    "em": partial(_joined, join=_mean),
    "wbf": _weighted,
}


def readings_of(boxes: pd.DataFrame, *, num_readers: int | None = None) -> pd.DataFrame:
    """One row per image and reader with a box in it, of any finding: columns image_id, reader. No rows for a consensus.

    num_readers: add readers "?1", "?2", ... without boxes until each image with a box has this number of readers.
    """
    marking = boxes.loc[boxes["reader"] != "", READING_COLUMNS].drop_duplicates()
    if num_readers is None or marking.empty:
        return marking.reset_index(drop=True)
    known = marking["image_id"].value_counts(sort=False)
    silent = [(i, f"?{k}") for i, n in known.items() for k in range(1, num_readers - n + 1)]
    return pd.concat([marking, pd.DataFrame(silent, columns=READING_COLUMNS)], ignore_index=True)


def read_groups(readings: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The images that only readers of one group read; readers without a group do not count.

    Args:
        readings: columns image_id, reader, as from `readings_of`. groups: name -> readers, each in one group.

    Returns:
        group -> image ids in the order of `readings`. Groups without an image are excluded and logged.
    """
    if not groups:
        return {}
    if readings.empty:
        log.info("readers: a consensus without readers' names, so no figures by group of readers")
        return {}
    group_of = {reader: group for group, readers in groups.items() for reader in readers}
    known = readings.assign(group=readings["reader"].map(group_of)).dropna(subset="group")
    num_groups = known.groupby("image_id")["group"].transform("nunique")
    alone = known[num_groups == 1].drop_duplicates(["image_id"])
    found = {group: alone.loc[alone["group"] == group, "image_id"].tolist() for group in groups}
    for group in groups:
        if not found[group]:
            log.warning("readers: group %s read no image here alone, so it has no figures", group)
    return {group: image_ids for group, image_ids in found.items() if image_ids}

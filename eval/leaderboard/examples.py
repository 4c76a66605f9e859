"""Which images a report shows, such as the best, median and worst ones, and how it shows an image with its boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from cxr.arrays import Floats
from cxr.coco import CocoBoxes
from cxr.imaging.files import read_image
from eval.detection.confidence import with_hits
from eval.detection.pairing import box_pairs
from eval.report.pictures import BoxLayer, Rgb, as_rgb, draw_layers, fitted

RANKS = ("best", "median", "worst")
KEY = ("image_id", "finding")
MAX_BOXES_SHOWN, MIN_SCORE_SHOWN = 3, 0.2
"""CAM boxes have no operating point: at most so many are shown, with at least this share of the highest score."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Case:
    """A finding on a test image with true boxes of it. row: of the truth's images. quality: see `ranked_cases`, in
    [0, 1].

    found, true, false: numbers of true boxes found, of true boxes, and of false boxes, all of the finding.
    """

    row: int
    finding: str
    quality: float
    found: int
    true: int
    false: int


def ranked_cases(truth: CocoBoxes, boxes: pd.DataFrame) -> list[Case]:
    """The findings on images with true boxes of them, by falling quality; on ties, those with more true boxes first.

    Quality is the panoptic quality (Kirillov et al., CVPR 2019): the sum of the IoU of the correct boxes of the
    finding, divided by correct + half the wrong + half the missed ones. Boxes in ignore regions do not count.
    """
    scored, real = with_hits(boxes, truth, where="all"), truth.without_ignored().boxes
    scored = scored.assign(iou=best_iou(scored, real))
    by_pair = dict(list(scored.groupby(list(KEY))))
    row_of = {image_id: row for row, image_id in enumerate(truth.images["image_id"])}
    cases = []
    for (image_id, finding), true_boxes in real.groupby(list(KEY), sort=False):
        own = by_pair.get((image_id, finding), scored.iloc[:0])
        found, true = int(own["hit"].sum()), len(true_boxes)
        false = len(own) - found
        quality = float(own.loc[own["hit"], "iou"].sum()) / (found + false / 2 + (true - found) / 2)
        cases.append(Case(row_of[image_id], str(finding), quality, found, true, false))
    return sorted(cases, key=lambda one: (-one.quality, -one.true, one.row))


def typical_cases(ranked: Sequence[Case], number: int) -> list[Case]:
    """The case of median quality of each of the findings with the most images, at most `number`."""
    by_finding: dict[str, list[Case]] = {}
    for one in ranked:
        by_finding.setdefault(one.finding, []).append(one)
    most = sorted(by_finding.values(), key=len, reverse=True)[:number]
    return [cases[(len(cases) - 1) // 2] for cases in most]


def best_iou(boxes: pd.DataFrame, others: pd.DataFrame) -> Floats:
    """(N,) highest IoU of each row of `boxes` with a row of `others` of the same image and finding; 0 without one."""
    pairs = box_pairs(boxes, others, by=KEY)
    best = np.zeros(len(boxes))
    np.maximum.at(best, pairs.first, pairs.iou)
    return best


def spread(ranked: Sequence[Item], number: int) -> dict[str, list[Item]]:
    """The first `number` items, as many around the middle, and the last ones, by rank ("best", ...); no item twice.

    With fewer than three items: the best, and the worst if there are two.
    """
    number = min(number, len(ranked) // len(RANKS)) or min(1, len(ranked))
    starts = dict(zip(RANKS, (0, (len(ranked) - number) // 2, len(ranked) - number), strict=True))
    if len(ranked) < len(RANKS):
        starts = {"best": 0} | ({"worst": 1} if len(ranked) == 2 else {})
    return {rank: list(ranked[start : start + number]) for rank, start in starts.items() if ranked}


def rows_without_boxes(truth: CocoBoxes) -> list[int]:
    """Rows of the images without any true box or ignore region."""
    marked = set(truth.boxes["image_id"])
    return [row for row, image_id in enumerate(truth.images["image_id"]) if image_id not in marked]


def false_alarms(truth: CocoBoxes, boxes: pd.DataFrame, confidence: Floats) -> pd.DataFrame:
    """The most confident box of each image without true boxes, by falling confidence, in a column `confidence`."""
    ids = truth.images["image_id"].iloc[rows_without_boxes(truth)]
    own = boxes.assign(confidence=confidence)[boxes["image_id"].isin(ids).to_numpy()]
    return own.sort_values("confidence", ascending=False, kind="stable").drop_duplicates("image_id")


def at_places(ordered: Sequence[str], places: Mapping[str, float]) -> dict[str, str]:
    """Item -> name of its place among `ordered` (0 first, .5 median, 1 last); no item twice."""
    chosen: dict[str, str] = {}
    for name, place in places.items():
        if ordered:
            chosen.setdefault(str(ordered[round(place * (len(ordered) - 1))]), name)
    return chosen


def boxes_of(table: pd.DataFrame, image_id: str, finding: str | None = None) -> pd.DataFrame:
    """The boxes of an image, of one finding or of all (None)."""
    own = table["image_id"] == image_id
    chosen: pd.DataFrame = table[(own if finding is None else own & (table["finding"] == finding)).to_numpy()]
    return chosen


def strongest_boxes(boxes: pd.DataFrame) -> pd.DataFrame:
    """At most `MAX_BOXES_SHOWN` boxes by rising score, so that the strongest one is drawn on top."""
    strong: pd.DataFrame = boxes[boxes["score"] >= MIN_SCORE_SHOWN * boxes["score"].max()]
    return strong.sort_values("score", kind="stable").tail(MAX_BOXES_SHOWN)


def render_image(coco: CocoBoxes, image_id: str, layers: Sequence[BoxLayer], *, tile_px: int) -> Rgb:
    """The image from its file, with boxes in its pixels; the longer side of the picture is `tile_px`."""
    image = coco.images[coco.images["image_id"] == image_id].iloc[0]
    gray = read_image(Path(coco.info["data_root"]) / str(image["path"]), region=image["region"])
    picture = as_rgb(fitted(gray, tile_px))
    return draw_layers(picture, layers, image_wh=(image["width"], image["height"]))

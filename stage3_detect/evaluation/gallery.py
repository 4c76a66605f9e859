"""Test images of the report: the detector's best, median and worst, and its false alarms on images without a box."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from cxr.arrays import Bools
from cxr.boxes import CORNERS
from cxr.coco import CocoBoxes
from cxr.imaging.files import read_image
from eval.detection.confidence import with_hits
from eval.detection.matching import MAIN_IOU
from eval.detection.operating_points import BEST_F1
from eval.detection.pairing import box_pairs
from eval.report.blocks import Block, Figure, Text
from eval.report.pictures import (
    BLUE,
    GREEN,
    ORANGE,
    Rgb,
    as_rgb,
    captions_apart,
    draw_boxes,
    grid,
    save_jpeg,
)
from stage3_detect.evaluation.results import Judgement

TILE_PX = 420
_TEXT_WH = (150, 20)
"""Pixels that a caption takes in a tile."""
NBSP = "\u00a0"
RANKS = ("best", "median", "worst")


@dataclass(frozen=True)
class Example:
    """A test image with true boxes. quality: see `ranked_images`. found, true, false: boxes of it."""

    row: int
    quality: float
    found: int
    true: int
    false: int


def ranked_images(truth: CocoBoxes, shown: pd.DataFrame) -> list[Example]:
    """The images with true boxes by falling quality, of equals those with more true boxes first.

    Quality is Kirillov et al.'s panoptic quality (CVPR 2019) of the image's boxes, all findings together: the sum of
    the IoU of the boxes that are right, over right ones + half the wrong ones + half the missed ones. Boxes in ignore
    regions count as nothing.

    shown: the boxes of the test split at an operating point.
    """
    judged = with_hits(shown, truth, where="all")
    real = truth.without_ignored().boxes
    quality = judged.assign(iou=_pair_iou(judged, real))
    examples = []
    by_image, num_true = dict(list(quality.groupby("image_id"))), real["image_id"].value_counts()
    for row, image_id in enumerate(truth.images["image_id"]):
        if image_id not in num_true:
            continue
        own = by_image.get(image_id, quality.iloc[:0])
        found, true = int(own["hit"].sum()), int(num_true[image_id])
        false = len(own) - found
        total = float(own.loc[own["hit"], "iou"].sum())
        examples.append(Example(row, total / (found + false / 2 + (true - found) / 2), found, true, false))
    return sorted(examples, key=lambda one: (-one.quality, -one.true))


def _pair_iou(found: pd.DataFrame, real: pd.DataFrame) -> pd.Series:
    """The highest IoU of each row with a true box of its image and finding; 0 without one."""
    pairs = box_pairs(found, real, by=("image_id", "finding"))
    best = np.zeros(len(found))
    np.maximum.at(best, pairs.first, pairs.iou)
    return pd.Series(best, index=found.index)


def spread(examples: Sequence[Example], number: int) -> dict[str, list[Example]]:
    """So many of the first, of those around the middle, and of the last; no image twice."""
    number = min(number, len(examples) // len(RANKS)) or min(1, len(examples))
    middle = (len(examples) - number) // 2
    starts = dict(zip(RANKS, (0, middle, len(examples) - number), strict=True))
    if len(examples) < len(RANKS):
        starts = {"best": 0} | ({"worst": 1} if len(examples) == 2 else {})
    return {rank: list(examples[start : start + number]) for rank, start in starts.items() if examples}


@dataclass(frozen=True, eq=False)
class Shown:
    """The boxes that pictures show, and in words which ones."""

    boxes: pd.DataFrame
    words: str


def boxes_to_show(judgement: Judgement) -> Shown:
    """Those at the operating point of best F1; without one, as many of the highest score as there are true boxes."""
    boxes = judgement.detector.detections.boxes
    point = judgement.scores.point(BEST_F1)
    if point is not None:
        return Shown(boxes[point.shows(boxes)], "at the operating point f1")
    number = len(judgement.truth.without_ignored().boxes)
    best = boxes.nlargest(number, "score")
    return Shown(
        best, f"of the highest score, {number} in all as there are true boxes (no operating point was chosen)"
    )


def gallery(run_dir: Path, judgement: Judgement, *, num_images: int) -> list[Block]:
    """Pictures of about `num_images` test images in all, a quarter of them without any box."""
    each = max(1, num_images // 4)
    shown = boxes_to_show(judgement)
    return [*_examples(run_dir, judgement, shown, each), *_alarms(run_dir, judgement, shown, each)]


def _examples(run_dir: Path, judgement: Judgement, shown: Shown, each: int) -> list[Block]:
    ranked = ranked_images(judgement.truth, shown.boxes)
    chosen = [(rank, one) for rank, part in spread(ranked, each).items() for one in part]
    if not chosen:
        return []
    tiles = [draw_tile(judgement.truth, one.row, shown.boxes) for _, one in chosen]
    captions = [_caption(rank, one) for rank, one in chosen]
    path = "pictures/examples.jpg"
    save_jpeg(run_dir / path, grid(tiles, captions, columns=min(each, 4), tile_px=TILE_PX))
    note = (
        f"Of the {len(ranked)} test images with a true box those of the best, median and worst quality: the sum of the "
        "IoU of right boxes over right + half the wrong + half the missed ones (panoptic quality, all findings "
        f"together). Readers' boxes green, with a name where they are missed; boxes {shown.words} blue where right and "
        "orange where wrong, with their score; a name that would lie over another is left out."
    )
    return [Figure("Best, median and worst test images", path, note)]


def _caption(rank: str, one: Example) -> str:
    """Numbers stay in one line with what they are of (no-break spaces)."""
    counts = [f"{one.found} of {one.true} found", f"{one.false} wrong"]
    return f"{rank} {one.quality:.2f}: ".replace(" ", NBSP) + ", ".join(
        part.replace(" ", NBSP) for part in counts
    )


def normal_rows(truth: CocoBoxes) -> list[int]:
    """Rows of the images without any box or ignore region."""
    marked = set(truth.boxes["image_id"])
    return [row for row, image_id in enumerate(truth.images["image_id"]) if image_id not in marked]


def _alarms(run_dir: Path, judgement: Judgement, shown: Shown, number: int) -> list[Block]:
    """The surest of the boxes shown on images without any true box, of which not one is right."""
    truth, rows = judgement.truth, normal_rows(judgement.truth)
    title = "False alarms on images without any box"
    if not rows:
        return [Text(title, "Every test image has a box or an ignore region.")]
    ids = truth.images["image_id"].iloc[rows]
    own = shown.boxes[shown.boxes["image_id"].isin(ids)]
    curves = judgement.scores.confidence
    sure = own.assign(sure=own["score"] if curves is None else curves.of(own))
    top = sure.sort_values("sure", ascending=False, kind="stable").drop_duplicates("image_id")
    body = (
        f"{len(top)} of the {len(rows)} test images without a true box of these findings have at least one box "
        f"{shown.words}."
    )
    first = top.head(number)
    if first.empty:
        return [Text(title, body)]
    row_of = {image_id: row for row, image_id in enumerate(truth.images["image_id"])}
    tiles = [draw_tile(truth, row_of[image_id], shown.boxes) for image_id in first["image_id"]]
    kind = "score" if curves is None else "confidence"
    captions = [
        f"{finding}, {kind}{NBSP}{value:.2f}"
        for finding, value in zip(first["finding"], first["sure"], strict=True)
    ]
    path = "pictures/false_alarms.jpg"
    save_jpeg(run_dir / path, grid(tiles, captions, columns=min(len(tiles), 4), tile_px=TILE_PX))
    note = f"{body} Shown are those with the surest box, which is named below each; scores are drawn beside the boxes."
    return [Figure(title, path, note)]


def draw_tile(truth: CocoBoxes, row: int, shown: pd.DataFrame) -> Rgb:
    """An image in its own shape, longer side `TILE_PX`: readers' boxes green, boxes blue (right) and orange (wrong)."""
    image: Mapping[Any, Any] = truth.images.iloc[row].to_dict()
    gray = read_image(Path(truth.info["data_root"]) / str(image["path"]), region=image["region"])
    scale = TILE_PX / max(gray.shape)
    size_wh = (max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale)))
    smaller = cv2.resize(gray, size_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    factors = np.tile(np.divide(size_wh, (image["width"], image["height"])), 2)
    one = CocoBoxes(truth.images.iloc[[row]], _of(truth.boxes, image["image_id"]), truth.findings)
    judged = with_hits(_of(shown, image["image_id"]), one, where="all").sort_values("score", kind="stable")
    right, wrong = judged[judged["hit"]], judged[~judged["hit"]]
    real = one.without_ignored().boxes
    groups = [
        (GREEN, real, _names_of_missed(real, right)),
        (ORANGE, wrong, _names_and_scores(wrong)),
        (BLUE, right, _names_and_scores(right)),
    ]
    corners = np.concatenate([boxes[CORNERS].to_numpy(dtype=np.float64) * factors for _, boxes, _ in groups])
    texts = captions_apart(corners, [text for *_, own in groups for text in own], size_wh=_TEXT_WH)
    picture, start = as_rgb(smaller), 0
    for colour, boxes, _ in groups:
        part = slice(start, start + len(boxes))
        picture = draw_boxes(picture, corners[part], colour=colour, captions=texts[part])
        start = part.stop
    return picture


def _names_and_scores(boxes: pd.DataFrame) -> list[str]:
    return [f"{finding} {score:.2f}" for finding, score in zip(boxes["finding"], boxes["score"], strict=True)]


def _names_of_missed(real: pd.DataFrame, right: pd.DataFrame) -> list[str]:
    """The finding of each true box that no right box lies on, "" for the others."""
    pairs = box_pairs(real, right, by=("image_id", "finding"))
    best = np.zeros(len(real))
    np.maximum.at(best, pairs.first, pairs.iou)
    found: Bools = best >= MAIN_IOU
    return ["" if hit else str(name) for name, hit in zip(real["finding"], found, strict=True)]


def _of(table: pd.DataFrame, image_id: str) -> pd.DataFrame:
    return table[table["image_id"] == image_id].reset_index(drop=True)

"""Test images in the report: the detector's best, median and worst, and false alarms on images without true boxes."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.boxes import CORNERS
from cxr.coco import CocoBoxes
from eval.detection.confidence import with_hits
from eval.detection.matching import MAIN_IOU
from eval.detection.points import BEST_F1
from eval.leaderboard.examples import (
    ImageQuality,
    best_iou,
    boxes_of,
    false_alarms,
    ranked_images,
    render_image,
    rows_without_boxes,
    spread,
)
from eval.report.blocks import Block, Figure, Text
from eval.report.pictures import BLUE, GREEN, ORANGE, BoxLayer, Rgb, grid, save_jpeg
from stage3_detect.evaluation.results import Evaluation

TILE_PX, OVERVIEW_COLUMNS = 420, 4
_TEXT_WH = (150, 20)
"""Width and height in pixels of a caption in a tile."""
NBSP = "\u00a0"
_COLOURS = (
    "True boxes are green, with the finding where they are missed. Detections {words} are blue where correct and "
    "orange where wrong, with their score. Names that would cover others are omitted."
)


class ShownBoxes(NamedTuple):
    """The detections that pictures show. words: which ones these are."""

    boxes: pd.DataFrame
    words: str


def boxes_to_show(evaluation: Evaluation) -> ShownBoxes:
    """Detections at the operating point of best F1; without one, those of highest score, as many as true boxes."""
    boxes = evaluation.board.main.detections.boxes
    point = evaluation.scores.point(BEST_F1)
    if point is not None:
        return ShownBoxes(boxes[point.shows(boxes)], "at the operating point f1")
    number = sum(evaluation.board.num_true.values())
    words = f"of the highest score ({number}, the number of true boxes, because no operating point was chosen)"
    return ShownBoxes(boxes.nlargest(number, "score"), words)


def overview(run_dir: Path, evaluation: Evaluation) -> list[Block]:
    """A row of typical test images: those of median quality."""
    shown = boxes_to_show(evaluation)
    ranked = ranked_images(evaluation.truth, shown.boxes)
    start = max(0, (len(ranked) - OVERVIEW_COLUMNS) // 2)
    chosen = [("", one) for one in ranked[start : start + OVERVIEW_COLUMNS]]
    if not chosen:
        return []
    path = "pictures/overview.jpg"
    save_jpeg(run_dir / path, _tiles(evaluation.truth, shown, chosen, columns=OVERVIEW_COLUMNS))
    note = "Test images of median quality. " + _COLOURS.format(words=shown.words)
    return [Figure("Typical test images", path, note)]


def gallery(run_dir: Path, evaluation: Evaluation, *, num_images: int) -> list[Block]:
    """About `num_images` test images: a quarter each of best, median and worst quality and without true boxes."""
    number, shown = max(1, num_images // 4), boxes_to_show(evaluation)
    ranked = ranked_images(evaluation.truth, shown.boxes)
    chosen = [(rank, one) for rank, part in spread(ranked, number).items() for one in part]
    alarms = _alarms(run_dir, evaluation, shown, number)
    if not chosen:
        return alarms
    path = "pictures/examples.jpg"
    save_jpeg(run_dir / path, _tiles(evaluation.truth, shown, chosen, columns=min(number, 4)))
    note = (
        f"From {len(ranked)} test images with true boxes. Quality is the panoptic quality over all findings: the sum "
        "of the IoU of the correct boxes, divided by correct + half the wrong + half the missed ones. "
    ) + _COLOURS.format(words=shown.words)
    return [Figure("Best, median and worst test images", path, note), *alarms]


def _tiles(truth: CocoBoxes, shown: ShownBoxes, chosen: Sequence[tuple[str, ImageQuality]], *, columns: int) -> Rgb:
    """The images in a grid; each caption names the rank, the quality and the numbers of boxes."""
    ids = truth.images["image_id"].tolist()
    tiles = [render_tile(truth, ids[one.row], shown.boxes) for _, one in chosen]
    captions = [_caption(rank, one) for rank, one in chosen]
    return grid(tiles, captions, columns=columns, tile_px=TILE_PX)


def _caption(rank: str, one: ImageQuality) -> str:
    """No-break spaces keep each number in one line with its name."""
    parts = [f"{rank} {one.quality:.2f}:".lstrip(), f"{one.found} of {one.true} found,", f"{one.false} wrong"]
    return " ".join(part.replace(" ", NBSP) for part in parts)


def _alarms(run_dir: Path, evaluation: Evaluation, shown: ShownBoxes, number: int) -> list[Block]:
    """The most confident detections on images without true boxes, all of which are wrong."""
    truth, title = evaluation.truth, "False alarms on images without true boxes"
    num_images = len(rows_without_boxes(truth))
    if not num_images:
        return [Text(title, "Every test image has a box or an ignore region.")]
    curves = evaluation.scores.confidence
    scores = shown.boxes["score"].to_numpy(dtype=np.float64) if curves is None else curves.of(shown.boxes)
    alarms = false_alarms(truth, shown.boxes, scores)
    body = f"{len(alarms)} of {num_images} test images without true boxes have at least one detection {shown.words}."
    first = alarms.head(number)
    if first.empty:
        return [Text(title, body)]
    tiles = [render_tile(truth, image_id, shown.boxes) for image_id in first["image_id"]]
    kind = "score" if curves is None else "confidence"
    captions = [
        f"{finding}, {kind}{NBSP}{value:.2f}"
        for finding, value in zip(first["finding"], first["confidence"], strict=True)
    ]
    path = "pictures/false_alarms.jpg"
    save_jpeg(run_dir / path, grid(tiles, captions, columns=min(len(tiles), 4), tile_px=TILE_PX))
    note = f"{body} The captions name the most confident detection of each image."
    return [Figure(title, path, note)]


def render_tile(truth: CocoBoxes, image_id: str, shown: pd.DataFrame) -> Rgb:
    """An image, longer side `TILE_PX`: true boxes green, detections blue (correct) or orange (wrong)."""
    true = boxes_of(truth.boxes, image_id).reset_index(drop=True)
    one = CocoBoxes(truth.images[truth.images["image_id"] == image_id], true, truth.findings)
    own = boxes_of(shown, image_id).reset_index(drop=True)
    scored = with_hits(own, one, where="all").sort_values("score", kind="stable")
    right, wrong, real = scored[scored["hit"]], scored[~scored["hit"]], one.without_ignored().boxes
    layers = [
        BoxLayer(real[CORNERS].to_numpy(), GREEN, _names_of_missed(real, right)),
        BoxLayer(wrong[CORNERS].to_numpy(), ORANGE, _names_and_scores(wrong)),
        BoxLayer(right[CORNERS].to_numpy(), BLUE, _names_and_scores(right)),
    ]
    return render_image(truth, image_id, layers, tile_px=TILE_PX, text_wh=_TEXT_WH)


def _names_and_scores(boxes: pd.DataFrame) -> list[str]:
    return [f"{finding} {score:.2f}" for finding, score in zip(boxes["finding"], boxes["score"], strict=True)]


def _names_of_missed(real: pd.DataFrame, right: pd.DataFrame) -> list[str]:
    """The finding of each true box without a correct detection, "" for the others."""
    found = best_iou(real, right) >= MAIN_IOU
    return ["" if hit else str(name) for name, hit in zip(real["finding"], found, strict=True)]

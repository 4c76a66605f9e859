"""Test images in the report: the detector's best, median and worst, and false alarms on images without true boxes."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.arrays import Bools
from cxr.boxes import CORNERS
from cxr.coco import CocoBoxes
from eval.detection.confidence import with_hits
from eval.detection.curves import Confidence
from eval.detection.matching import MAIN_IOU
from eval.leaderboard.examples import (
    Case,
    best_iou,
    boxes_of,
    false_alarms,
    ranked_cases,
    render_image,
    rows_without_boxes,
    spread,
    typical_cases,
)
from eval.report.blocks import Block, Figure, Text
from eval.report.box_colours import CORRECT, TRUE, WRONG, legend_of
from eval.report.captions import chance_text, unbroken
from eval.report.format import listed
from eval.report.pictures import BoxLayer, Rgb, grid, save_jpeg
from stage3_detect.evaluation.results import Evaluation
from stage3_detect.prediction.points import shared_confidence

TILE_PX, COLUMNS, NUM_TYPICAL = 310, 3, 6
"""Three tiles are as wide as the page, so it shows them in their own size."""
_LEGEND = legend_of(TRUE, CORRECT, WRONG)
_BOXES = "A picture shows the boxes of one finding: the detections {words}, with {number}, and the true boxes."


class ShownBoxes(NamedTuple):
    """The detections that pictures show.

    boxes: with a column `text`, their calibrated confidence, or their score without calibration. words: which ones
    these are. number: what the text is.
    """

    boxes: pd.DataFrame
    words: str
    number: str

    @property
    def note(self) -> str:
        """About the boxes in the pictures."""
        return _BOXES.format(words=self.words, number=self.number)


def boxes_to_show(evaluation: Evaluation) -> ShownBoxes:
    """Detections at the default operating point; without one, those of highest score, as many as true boxes."""
    boxes, number = _with_texts(evaluation.board.main.detections.boxes, evaluation.scores.confidence)
    point = evaluation.scores.default_point
    if point is not None:
        return ShownBoxes(boxes[point.shows(boxes)], f"at the operating point {point.name}", number)
    count = sum(evaluation.board.num_true.values())
    words = f"of the highest score ({count}, the number of true boxes, because no operating point was chosen)"
    return ShownBoxes(boxes.nlargest(count, "score"), words, number)


def _with_texts(boxes: pd.DataFrame, curves: Confidence | None) -> tuple[pd.DataFrame, str]:
    """The boxes with `confidence` (the score without curves) and `text`; what the text is."""
    scores = boxes["score"].to_numpy(dtype=np.float64)
    values = scores if curves is None else curves.of(boxes)
    pairs = zip(scores.tolist(), values.tolist(), strict=True)
    texts = [chance_text(score, None if curves is None else value) for score, value in pairs]
    number = "their score" if curves is None else "their confidence (the probability of being correct, fitted on tune)"
    return boxes.assign(confidence=values, text=texts), number


def _threshold_words(evaluation: Evaluation) -> str:
    """The thresholds of the operating point, by finding unless all have one confidence, as the pictures' numbers; ""
    without an operating point."""
    point = evaluation.scores.default_point
    if point is None:
        return ""
    least = pd.DataFrame({"finding": list(point.scores), "score": list(point.scores.values())})
    shown = least[np.isfinite(least["score"])]
    chances = _with_texts(shown, evaluation.scores.confidence)[0]["text"]
    texts = [f"{finding} {text}" for finding, text in zip(shown["finding"], chances, strict=True)]
    if shared_confidence(point, evaluation.scores.confidence) is not None:
        texts = [chances.iloc[0]]
    never = least.loc[~np.isfinite(least["score"]), "finding"].tolist()
    return f" Lowest shown: {listed(texts)}." * bool(texts) + f" Never shown: {listed(never)}." * bool(never)


def overview(run_dir: Path, evaluation: Evaluation) -> list[Block]:
    """One typical test image of each of the most frequent findings."""
    shown = boxes_to_show(evaluation)
    chosen = [("", one) for one in typical_cases(ranked_cases(evaluation.truth, shown.boxes), NUM_TYPICAL)]
    if not chosen:
        return []
    path = "pictures/overview.jpg"
    save_jpeg(run_dir / path, _tiles(evaluation.truth, shown, chosen))
    note = (
        f"One test image for each finding, at most for the {NUM_TYPICAL} most frequent: the one of median quality, as "
        f"defined under the last pictures of this page. {shown.note}{_threshold_words(evaluation)}"
    )
    return [Figure("Typical test images", path, note, legend=_LEGEND)]


def gallery(run_dir: Path, evaluation: Evaluation, *, num_images: int) -> list[Block]:
    """About `num_images` test images: a quarter each of best, median and worst quality and without true boxes."""
    number, shown = max(1, num_images // 4), boxes_to_show(evaluation)
    ranked = ranked_cases(evaluation.truth, shown.boxes)
    chosen = [(rank, one) for rank, part in spread(ranked, number).items() for one in part]
    alarms = _alarms(run_dir, evaluation, shown, number)
    if not chosen:
        return alarms
    path = "pictures/examples.jpg"
    save_jpeg(run_dir / path, _tiles(evaluation.truth, shown, chosen))
    note = (
        f"From {len(ranked)} pairs of a test image and a finding with true boxes. Quality is the panoptic quality: the "
        "sum of the IoU of the correct boxes, divided by correct + half the wrong + half the missed ones. "
    ) + shown.note
    return [Figure("Best, median and worst test images", path, note, legend=_LEGEND), *alarms]


def _tiles(truth: CocoBoxes, shown: ShownBoxes, chosen: Sequence[tuple[str, Case]]) -> Rgb:
    """The images in a grid; each caption names the finding, the rank, the quality and the numbers of boxes."""
    ids = truth.images["image_id"].tolist()
    tiles = [render_tile(truth, (ids[one.row], one.finding), shown.boxes) for _, one in chosen]
    captions = [_caption(rank, one) for rank, one in chosen]
    return grid(tiles, captions, columns=COLUMNS, tile_px=TILE_PX)


def _caption(rank: str, one: Case) -> str:
    quality = f"{rank or 'quality'} {one.quality:.2f}:"
    parts = [f"{one.finding},", quality, f"{one.found} of {one.true} found,", f"{one.false} wrong"]
    return " ".join(map(unbroken, parts))


def _alarms(run_dir: Path, evaluation: Evaluation, shown: ShownBoxes, number: int) -> list[Block]:
    """The most confident detections on images without true boxes, all of which are wrong."""
    truth, title = evaluation.truth, "False alarms on images without true boxes"
    num_images = len(rows_without_boxes(truth))
    if not num_images:
        return [Text(title, "Every test image has a box or an ignore region.")]
    alarms = false_alarms(truth, shown.boxes, shown.boxes["confidence"].to_numpy(dtype=np.float64))
    body = f"{len(alarms)} of {num_images} test images without true boxes have at least one detection {shown.words}."
    first = alarms.head(number)
    if first.empty:
        return [Text(title, body)]
    pairs = zip(first["image_id"], first["finding"], strict=True)
    tiles = [render_tile(truth, pair, shown.boxes) for pair in pairs]
    path = "pictures/false_alarms.jpg"
    save_jpeg(run_dir / path, grid(tiles, first["finding"].tolist(), columns=COLUMNS, tile_px=TILE_PX))
    note = f"{body} Shown: the finding of the most confident detection of an image, with {shown.number}."
    return [Figure(title, path, note, legend=legend_of(WRONG))]


def render_tile(truth: CocoBoxes, pair: tuple[str, str], shown: pd.DataFrame) -> Rgb:
    """An image, longer side `TILE_PX`, with the true boxes of a finding and its correct and wrong detections.

    pair: image id and finding. shown: boxes with a column `text`.
    """
    true = boxes_of(truth.boxes, *pair).reset_index(drop=True)
    one = CocoBoxes(truth.images[truth.images["image_id"] == pair[0]], true, truth.findings)
    own = boxes_of(shown, *pair).reset_index(drop=True)
    scored = with_hits(own, one, where="all").sort_values("score", kind="stable")
    right, wrong, real = scored[scored["hit"]], scored[~scored["hit"]], one.without_ignored().boxes
    layers = [
        BoxLayer(real[CORNERS].to_numpy(), TRUE.colour, ["" if hit else "missed" for hit in _found(real, right)]),
        BoxLayer(wrong[CORNERS].to_numpy(), WRONG.colour, wrong["text"].tolist(), dashed=True),
        BoxLayer(right[CORNERS].to_numpy(), CORRECT.colour, right["text"].tolist()),
    ]
    return render_image(truth, pair[0], layers, tile_px=TILE_PX)


def _found(real: pd.DataFrame, right: pd.DataFrame) -> Bools:
    """(N,) which true boxes have a correct detection."""
    return np.asarray(best_iou(real, right) >= MAIN_IOU, dtype=np.bool_)

"""Pictures of a relabelling: the teacher's boxes, the student's, and the fused boxes."""

from pathlib import Path

import numpy as np
import pandas as pd

from cxr.boxes import CORNERS
from cxr.coco import CocoBoxes
from eval.leaderboard.examples import at_places, best_iou, boxes_of, render_image
from eval.report.box_colours import DETECTED, FROM_MAP, NEXT_LABELS
from eval.report.captions import chance_text
from eval.report.pictures import BoxLayer, Rgb, grid, save_jpeg

NAME = "pictures/relabelled.jpg"
PLACES = {"changed most": 0.0, "much": 0.25, "median": 0.5}
"""Name of an example -> its place among the images of a finding, largest change of the most confident box first."""

_TILE_PX = 320


def relabel_gallery(run_dir: Path, teacher: CocoBoxes, student: pd.DataFrame, fused: CocoBoxes) -> Path | None:
    """Write examples per finding to ``<run_dir>/<NAME>``; returns the path, or None where there are no boxes.

    They show the teacher's boxes, the student's chosen boxes, and the fused labels with their confidence.
    """
    tiles, captions = [], []
    for finding in fused.findings:
        for image_id, words in _examples(teacher, fused, finding).items():
            tiles.append(_tile(teacher, student, fused, (image_id, finding)))
            captions.append(f"{finding}: {words}")
    if not tiles:
        return None
    return save_jpeg(run_dir / NAME, grid(tiles, captions, columns=len(PLACES), tile_px=_TILE_PX))


def _examples(teacher: CocoBoxes, fused: CocoBoxes, finding: str) -> dict[str, str]:
    """Image id -> name of the example, among images in which the finding has a box."""
    now = _most_confident(fused, finding)
    if now.empty:
        return {}
    overlap = best_iou(now, _most_confident(teacher, finding))
    return at_places(now["image_id"].to_numpy()[np.argsort(overlap, kind="stable")].tolist(), PLACES)


def _most_confident(labels: CocoBoxes, finding: str) -> pd.DataFrame:
    """The most confident box of the finding per image."""
    boxes = labels.without_ignored().boxes
    own = boxes[boxes["finding"] == finding]
    by = "confidence" if "confidence" in own else "score"
    return own.sort_values(by, ascending=False, kind="stable").drop_duplicates("image_id").reset_index(drop=True)


def _tile(teacher: CocoBoxes, student: pd.DataFrame, fused: CocoBoxes, pair: tuple[str, str]) -> Rgb:
    own = boxes_of(fused.without_ignored().boxes, *pair).sort_values("confidence", kind="stable")
    texts = [chance_text(score, value) for score, value in zip(own["score"], own["confidence"], strict=True)]
    layers = [
        BoxLayer(boxes_of(teacher.without_ignored().boxes, *pair)[CORNERS].to_numpy(), FROM_MAP.colour),
        BoxLayer(boxes_of(student, *pair)[CORNERS].to_numpy(), DETECTED.colour),
        BoxLayer(own[CORNERS].to_numpy(), NEXT_LABELS.colour, texts),
    ]
    return render_image(fused, pair[0], layers, tile_px=_TILE_PX)

"""Pictures of a relabelling: the teacher's boxes, the student's, and the fused boxes."""

from pathlib import Path

import numpy as np
import pandas as pd

from cxr.boxes import CORNERS
from cxr.coco import CocoBoxes
from cxr.imaging.files import read_image
from eval.detection.pairing import box_pairs
from eval.report.pictures import BLUE, GREEN, ORANGE, Rgb, as_rgb, draw_boxes, grid, save_jpeg

NAME = "pictures/relabelled.jpg"
PLACES = {"changed most": 0.0, "much": 0.25, "median": 0.5}
"""Name of an example -> its place among the images of a finding, largest change of the most confident box first."""

_KEY = ["image_id", "finding"]
_TILE_PX = 320


def relabel_gallery(run_dir: Path, teacher: CocoBoxes, student: pd.DataFrame, fused: CocoBoxes) -> Path | None:
    """Write examples per finding to ``<run_dir>/<NAME>``; returns the path, or None where there are no boxes.

    Orange: the teacher's boxes. Blue: the student's chosen boxes. Green: the fused labels with their confidence. The
    images are in original pixels.
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
    pairs = box_pairs(now, _most_confident(teacher, finding), by=_KEY)
    overlap = np.zeros(len(now))
    overlap[pairs.first] = pairs.iou
    order = now["image_id"].to_numpy()[np.argsort(overlap, kind="stable")]
    chosen: dict[str, str] = {}
    for words, place in PLACES.items():
        chosen.setdefault(str(order[round(place * (len(order) - 1))]), words)
    return chosen


def _most_confident(labels: CocoBoxes, finding: str) -> pd.DataFrame:
    """The most confident box of the finding per image."""
    boxes = labels.without_ignored().boxes
    own = boxes[boxes["finding"] == finding]
    by = "confidence" if "confidence" in own else "score"
    return own.sort_values(by, ascending=False, kind="stable").drop_duplicates("image_id").reset_index(drop=True)


def _tile(teacher: CocoBoxes, student: pd.DataFrame, fused: CocoBoxes, pair: tuple[str, str]) -> Rgb:
    image = fused.images[fused.images["image_id"] == pair[0]].iloc[0]
    path = Path(str(fused.info["data_root"])) / image["path"]
    picture = as_rgb(read_image(path, region=image["region"]))
    for boxes, colour in ((teacher.without_ignored().boxes, ORANGE), (student, BLUE)):
        picture = draw_boxes(picture, _of(boxes, pair)[CORNERS].to_numpy(), colour=colour)
    own = _of(fused.without_ignored().boxes, pair)
    captions = [f"{value:.2f}" for value in own["confidence"]]
    return draw_boxes(picture, own[CORNERS].to_numpy(), colour=GREEN, captions=captions)


def _of(boxes: pd.DataFrame, pair: tuple[str, str]) -> pd.DataFrame:
    return boxes[((boxes["image_id"] == pair[0]) & (boxes["finding"] == pair[1])).to_numpy()]

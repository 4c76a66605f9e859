"""All measures of one entry of the leaderboard: those of its boxes, and those of its maps if it has any."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from cxr.coco import CocoBoxes, boxes_table
from eval.detection.indexed import IndexedDetections
from eval.detection.localization import max_box_accuracy_measure
from eval.detection.measures import box_measures, points_table, positive_pairs
from eval.stats.measures import Measure
from stage2_pseudolabel.boxes.components import ComponentRule
from stage2_pseudolabel.boxes.detect import image_boxes, sizes_hw_of
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.rule import Found, Maps

BOX_THRESHOLDS = tuple((np.arange(20) + 0.5) / 20)
"""Thresholds of MaxBoxAccV2, as shares of the range of a map."""
MAX_COMPONENTS = 100
"""Maximum number of boxes per map and threshold. MaxBoxAccV2 has no limit; a map of a few hundred cells has fewer."""


def all_measures(
    truth: CocoBoxes,
    detections: CocoBoxes,
    *,
    maps: Maps | None,
    frame: Frame,
    min_scores: Mapping[str, float] | None = None,
) -> list[Measure]:
    """All measures of one entry, ready for any bootstrap resample.

    Args:
        maps: (N, K, h, w) that the boxes come from, for the pointing game (at the cell of the maximum) and MaxBoxAccV2
            (boxes of the components above each of `BOX_THRESHOLDS`). None for boxes without a map: their pointing game
            uses the centre of the best-scored box, and they have no MaxBoxAccV2.
        min_scores: finding -> the score from which RoDeO counts boxes, chosen on the tune split; for findings that are
            not named, `eval.detection.rodeo.MIN_SCORE`.
    """
    points = None if maps is None else map_points(maps, truth, frame)
    boxes = IndexedDetections(truth, detections)
    measures = box_measures(boxes, min_scores=min_scores or {}, points=points)
    if maps is not None:
        measures.append(max_box_accuracy_measure(boxes.true, boxes_at_thresholds(maps, truth, frame)))
    return measures


def map_points(maps: Maps, truth: CocoBoxes, frame: Frame) -> pd.DataFrame:
    """The highest cell of each map (N, K, h, w) whose image has the finding: its centre in image pixels.

    On ties, the first cell row by row. A constant map has no row. Returns columns image_id, finding, x, y.
    """
    rows: list[tuple[object, ...]] = []
    images = truth.images[["image_id", "height", "width"]].to_numpy().tolist()
    for row, column in positive_pairs(truth):
        cam = maps[row, column]
        if cam.max() > cam.min():
            image_id, height, width = images[row]
            y, x = np.unravel_index(int(cam.argmax()), cam.shape)
            point = [(x + 0.5) / cam.shape[1], (y + 0.5) / cam.shape[0]]
            pixel = frame.to_image(np.array([point * 2]), (int(height), int(width)))[0]
            rows.append((image_id, truth.findings[column], pixel[0], pixel[1]))
    return points_table(rows)


def boxes_at_thresholds(maps: Maps, truth: CocoBoxes, frame: Frame) -> list[CocoBoxes]:
    """For each of `BOX_THRESHOLDS`, the boxes of all components above it in the images that have the finding.

    Each map is first scaled to [0, 1], as in Choe et al. (Evaluating Weakly Supervised Object Localization Methods
    Right, CVPR 2020, section 4.1). A constant map has no boxes.
    """
    pairs, ids = positive_pairs(truth), truth.images["image_id"].to_numpy()
    found: list[tuple[int, str, Found]] = []
    for column, finding in enumerate(truth.findings):
        rows = np.array([row for row, own in pairs if own == column], dtype=np.int64)
        stretched = _stretched(maps[rows, column])
        for step, threshold in enumerate(BOX_THRESHOLDS):
            one = ComponentRule("relative", float(threshold), MAX_COMPONENTS, 0.0).find(stretched)
            found.append((step, finding, replace(one, image=rows[one.image])))
    sizes_hw = sizes_hw_of(truth)[np.concatenate([one.image for *_, one in found])]
    corners = iter(image_boxes(np.concatenate([one.boxes for *_, one in found]), sizes_hw, frame=frame).tolist())
    tables: list[list[tuple[object, ...]]] = [[] for _ in BOX_THRESHOLDS]
    for step, finding, one in found:
        tables[step] += [(image_id, finding, *next(corners), 1.0) for image_id in ids[one.image]]
    return [truth.with_boxes(boxes_table(rows)) for rows in tables]


def _stretched(maps: Maps) -> Maps:
    """(n, h, w) maps, each scaled so that its lowest value is 0 and its highest 1; constant maps become 0."""
    if not len(maps):
        return maps
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    span = high - low
    return np.asarray(np.divide(maps - low, span, out=np.zeros_like(maps), where=span > 0), dtype=np.float32)

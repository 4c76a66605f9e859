"""Every measure of one entry of the leaderboard: of its boxes, and of its maps where it has any."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cxr.coco import CocoBoxes, boxes_table
from eval.detection import evaluate
from eval.froc import froc_measure
from eval.localization import (
    accuracy_measure,
    ap5095_measure,
    ap_measure,
    corloc_measure,
    max_box_accuracy_measure,
    pointing_measure,
)
from eval.matching import match_boxes
from eval.measures import Drawn, Measure
from eval.rodeo import f1_thresholds, rodeo_measure
from eval.voc import voc_ap
from stage2_pseudolabel.boxes.components import ComponentRule
from stage2_pseudolabel.boxes.frame import Frame
from stage2_pseudolabel.boxes.rule import Boxes, Maps
from stage2_pseudolabel.boxes.search import PRIMARY_IOU

AP_IOUS = (0.1, 0.3, 0.4, 0.5, 0.7)
ACCURACY_THRESHOLDS = (0.1, 0.3, 0.5, 0.7)
BOX_THRESHOLDS = tuple((np.arange(20) + 0.5) / 20)
"""Shares of a map's range at which MaxBoxAccV2 draws boxes."""
MAX_COMPONENTS = 100
"""Boxes an image and threshold for MaxBoxAccV2, which knows no limit; a map of a few hundred cells has fewer."""

_POINT_FIELDS = ["image_id", "finding", "x", "y"]


def measures_of(
    truth: CocoBoxes,
    detections: CocoBoxes,
    *,
    maps: Maps | None,
    frame: Frame,
    min_scores: Mapping[str, float] | None = None,
) -> list[Measure]:
    """All measures of the boxes of one entry, ready for any resampling; AP stands on pycocotools' matching.

    Args:
        maps: (N, K, h, w) that the boxes come from, for the pointing game (at the cell of the maximum) and MaxBoxAccV2
            (boxes of the components above each of `BOX_THRESHOLDS`). None for what looks at no map: it points at the
            centre of its best box, and has no MaxBoxAccV2.
        min_scores: finding -> the score from which RoDeO takes boxes as put out, chosen on the tune split.
    """
    matches = evaluate(truth, detections).matches
    points = top_box_points(detections) if maps is None else map_points(maps, truth, frame)
    measures = [
        *(ap_measure(matches, iou) for iou in AP_IOUS),
        ap5095_measure(matches),
        froc_measure(matches),
        corloc_measure(truth, detections),
        *(accuracy_measure(truth, detections, overlap="iou", threshold=t) for t in ACCURACY_THRESHOLDS),
        *(accuracy_measure(truth, detections, overlap="iobb", threshold=t) for t in ACCURACY_THRESHOLDS),
        pointing_measure(truth, points),
        rodeo_measure(truth, detections, min_score=min_scores or {}),
    ]
    if maps is not None:
        measures.append(max_box_accuracy_measure(truth, boxes_at_thresholds(maps, truth, frame)))
    return measures


def voc_point(truth: CocoBoxes, detections: CocoBoxes) -> Drawn:
    """Kaggle's AP at IoU .4 as "voc40": a value without resamples, since its matching is another than COCO's."""
    values = np.array(list(voc_ap(truth, detections).values()), dtype=np.float64)
    return Drawn("voc40", tuple(truth.findings), values, np.zeros((0, len(values))))


def put_out_scores(tune: CocoBoxes, detections: pd.DataFrame) -> dict[str, float]:
    """Finding -> the score from which an entry's boxes count as put out: where F1 is best on the tune split.

    detections: of the tune split, made with `leave_own_out` where the rules know its boxes.
    """
    return f1_thresholds(match_boxes(tune, tune.with_boxes(detections), ious=(PRIMARY_IOU,)))


def map_points(maps: Maps, truth: CocoBoxes, frame: Frame) -> pd.DataFrame:
    """Where each map (N, K, h, w) is highest, where the image has the finding: the cell's centre in image pixels.

    Of equal cells the first, row by row. A constant map points nowhere and has no row.
    Returns columns image_id, finding, x, y.
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
    return _points(rows)


def top_box_points(detections: CocoBoxes) -> pd.DataFrame:
    """The centre of the best-scored box of each image and finding: columns image_id, finding, x, y."""
    ranked = detections.boxes.sort_values("score", ascending=False, kind="stable")
    best = ranked.drop_duplicates(["image_id", "finding"])
    x, y = (best["x1"] + best["x2"]) / 2, (best["y1"] + best["y2"]) / 2
    return _points(list(zip(best["image_id"], best["finding"], x, y, strict=True)))


def _points(rows: Sequence[tuple[object, ...]]) -> pd.DataFrame:
    table = pd.DataFrame(list(rows), columns=_POINT_FIELDS)
    return table.astype({"image_id": object, "finding": object, "x": np.float64, "y": np.float64})


def boxes_at_thresholds(maps: Maps, truth: CocoBoxes, frame: Frame) -> list[CocoBoxes]:
    """For each of `BOX_THRESHOLDS` the boxes of all components above it, in the images that have the finding.

    Maps are stretched to their own range first, as in Choe et al. (Evaluating Weakly Supervised Object Localization
    Methods Right, CVPR 2020, section 4.1): a threshold is a share of it. A constant map has no boxes.
    """
    pairs = positive_pairs(truth)
    parts: list[tuple[int, int, int, Boxes]] = []
    for column in range(len(truth.findings)):
        rows = [row for row, own in pairs if own == column]
        stretched = _stretched(maps[rows, column])
        for step, threshold in enumerate(BOX_THRESHOLDS):
            found = ComponentRule("relative", float(threshold), MAX_COMPONENTS, 0.0).find(stretched)
            parts += [(step, row, column, found.of(place)[0]) for place, row in enumerate(rows)]
    tables = _tables_by_step(parts, truth, frame)
    return [truth.with_boxes(table) for table in tables]


def _stretched(maps: Maps) -> Maps:
    """(n, h, w) each from its lowest value (0) to its highest (1); constant maps become 0."""
    if not len(maps):
        return maps
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    span = high - low
    return np.asarray(np.divide(maps - low, span, out=np.zeros_like(maps), where=span > 0), dtype=np.float32)


def _tables_by_step(
    parts: Sequence[tuple[int, int, int, Boxes]], truth: CocoBoxes, frame: Frame
) -> list[pd.DataFrame]:
    """Boxes (step, image row, finding column, (n, 4) shares of the map) as one table of pixels a step."""
    of_image: dict[int, list[tuple[int, int, Boxes]]] = {}
    for step, row, column, boxes in parts:
        if len(boxes):
            of_image.setdefault(row, []).append((step, column, boxes))
    rows: list[list[tuple[object, ...]]] = [[] for _ in BOX_THRESHOLDS]
    images = truth.images[["image_id", "height", "width"]].to_numpy().tolist()
    for row, own in of_image.items():
        image_id, height, width = images[row]
        pixels = frame.to_image(np.concatenate([boxes for *_, boxes in own]), (int(height), int(width)))
        labels = [(step, column) for step, column, boxes in own for _ in boxes]
        for (step, column), box in zip(labels, pixels.tolist(), strict=True):
            rows[step].append((image_id, truth.findings[column], *box, 1.0))
    return [boxes_table(own) for own in rows]


def positive_pairs(truth: CocoBoxes) -> list[tuple[int, int]]:
    """(image row, finding column) of every finding that an image has a true box of, in this order."""
    row_of = {image_id: row for row, image_id in enumerate(truth.images["image_id"])}
    column_of = {finding: column for column, finding in enumerate(truth.findings)}
    boxes = truth.boxes
    if "iscrowd" in boxes:
        boxes = boxes[boxes["iscrowd"] != 1]
    pairs = {
        (row_of[image_id], column_of[finding])
        for image_id, finding in zip(boxes["image_id"], boxes["finding"], strict=True)
    }
    return sorted(pairs)

"""Every measure of a set of scored boxes that needs nothing but the boxes: what both leaderboards judge entries by."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from cxr.coco import CocoBoxes
from eval.detection.coco_ap import evaluate
from eval.detection.froc import froc_measure
from eval.detection.localization import (
    accuracy_measure,
    ap5095_measure,
    ap_measure,
    corloc_measure,
    pointing_measure,
)
from eval.detection.matching import match_boxes
from eval.detection.rodeo import f1_thresholds, rodeo_measure
from eval.detection.voc import voc_measure
from eval.stats.measures import Measure

MAIN_IOU = 0.4
AP_IOUS = (0.1, 0.3, 0.4, 0.5, 0.7)
ACCURACY_THRESHOLDS = (0.1, 0.3, 0.5, 0.7)

_POINT_FIELDS = ["image_id", "finding", "x", "y"]


def box_measures(
    truth: CocoBoxes,
    detections: CocoBoxes,
    *,
    min_scores: Mapping[str, float] | None = None,
    points: pd.DataFrame | None = None,
) -> list[Measure]:
    """All measures of the boxes of one entry, ready for any resampling; AP stands on pycocotools' matching.

    Args:
        min_scores: finding -> the score from which RoDeO takes boxes as put out, chosen on the tune split (see
            `put_out_scores`); without it there is no RoDeO, which needs thresholded boxes.
        points: of the pointing game, as `pointing_measure` takes them; None for the centre of each image's best box.
    """
    matches = evaluate(truth, detections).matches
    measures = [
        *(ap_measure(matches, iou) for iou in AP_IOUS),
        ap5095_measure(matches),
        voc_measure(truth, detections, iou=MAIN_IOU),
        froc_measure(matches),
        corloc_measure(truth, detections),
        *(accuracy_measure(truth, detections, overlap="iou", threshold=t) for t in ACCURACY_THRESHOLDS),
        *(accuracy_measure(truth, detections, overlap="iobb", threshold=t) for t in ACCURACY_THRESHOLDS),
        pointing_measure(truth, top_box_points(detections) if points is None else points),
    ]
    if min_scores is not None:
        measures.append(rodeo_measure(truth, detections, min_score=min_scores))
    return measures


def put_out_scores(tune: CocoBoxes, detections: pd.DataFrame) -> dict[str, float]:
    """Finding -> the score from which an entry's boxes count as put out: where F1 is best on the tune split.

    detections: of the tune split, made without use of the image's own true boxes.
    """
    return f1_thresholds(match_boxes(tune, tune.with_boxes(detections), ious=(MAIN_IOU,)))


def top_box_points(detections: CocoBoxes) -> pd.DataFrame:
    """The centre of the best-scored box of each image and finding: columns image_id, finding, x, y."""
    ranked = detections.boxes.sort_values("score", ascending=False, kind="stable")
    best = ranked.drop_duplicates(["image_id", "finding"])
    x, y = (best["x1"] + best["x2"]) / 2, (best["y1"] + best["y2"]) / 2
    return points_table(list(zip(best["image_id"], best["finding"], x, y, strict=True)))


def points_table(rows: list[tuple[object, ...]]) -> pd.DataFrame:
    """Columns image_id, finding, x, y; right dtypes also when empty."""
    table = pd.DataFrame(rows, columns=_POINT_FIELDS)
    return table.astype({"image_id": object, "finding": object, "x": np.float64, "y": np.float64})


def positive_pairs(truth: CocoBoxes) -> list[tuple[int, int]]:
    """Row of the image and column of the finding of each pair that has a true box, image by image."""
    row_of = {image_id: row for row, image_id in enumerate(truth.images["image_id"])}
    column_of = {finding: column for column, finding in enumerate(truth.findings)}
    boxes = truth.without_ignored().boxes
    pairs = {
        (row_of[image_id], column_of[finding])
        for image_id, finding in zip(boxes["image_id"], boxes["finding"], strict=True)
    }
    return sorted(pairs)

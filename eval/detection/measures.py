"""All measures that need nothing but boxes: what the leaderboard compares entries by."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from cxr.coco import CocoBoxes
from eval.detection.average_precision import ap5095_measure, ap_measure, label_ap_measure
from eval.detection.chex import chex_measure
from eval.detection.froc import froc_measure
from eval.detection.indexed import IndexedDetections, Overlap, TruthIndex
from eval.detection.localization import accuracy_measure, corloc_measure, mean_iou_measure, pointing_measure
from eval.detection.mask_measures import mask_iou_measure
from eval.detection.matching import MAIN_IOU
from eval.detection.rodeo import f1_thresholds, rodeo_measure
from eval.detection.voc import voc_measure
from eval.stats.measures import Measure

AP_IOUS = (0.1, 0.3, MAIN_IOU, 0.5, 0.7)
LABEL_AP_IOUS = (MAIN_IOU, 0.5)
ACCURACY_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
OVERLAPS: tuple[Overlap, ...] = ("iou", "iobb")

_POINT_FIELDS = ["image_id", "finding", "x", "y"]


def box_measures(
    boxes: IndexedDetections, *, min_scores: Mapping[str, float] | None = None, points: pd.DataFrame | None = None
) -> list[Measure]:
    """All box measures of one set of detections, ready for any resampling; with masks in the truth, `mask_iou` too.

    min_scores: finding -> minimum score of the boxes that RoDeO counts, see `best_f1_scores`; None for no RoDeO.
    points: points of the pointing game, see `pointing_measure`; None for the centre of each image's best box.
    """
    points = top_box_points(boxes.detections) if points is None else points
    measures = [
        *(ap_measure(boxes.matches, iou) for iou in AP_IOUS),
        ap5095_measure(boxes.matches),
        *(label_ap_measure(boxes.matches, iou) for iou in LABEL_AP_IOUS),
        voc_measure(boxes),
        chex_measure(boxes),
        froc_measure(boxes.matches),
        corloc_measure(boxes),
        *(accuracy_measure(boxes, overlap=kind, threshold=t) for kind in OVERLAPS for t in ACCURACY_THRESHOLDS),
        mean_iou_measure(boxes),
        pointing_measure(boxes.true, points),
    ]
    if boxes.true.masks:
        measures.append(mask_iou_measure(boxes))
    if min_scores is not None:
        measures.append(rodeo_measure(boxes, min_score=min_scores))
    return measures


def best_f1_scores(tune: CocoBoxes, detections: pd.DataFrame) -> dict[str, float]:
    """Finding -> minimum score with the best F1 on detections of the tune split; see `f1_thresholds`."""
    return f1_thresholds(IndexedDetections(tune, tune.with_boxes(detections)).match((MAIN_IOU,)))


def top_box_points(detections: CocoBoxes) -> pd.DataFrame:
    """The centre of the best-scored box per image and finding: columns image_id, finding, x, y."""
    ranked = detections.boxes.sort_values("score", ascending=False, kind="stable")
    best = ranked.drop_duplicates(["image_id", "finding"])
    x, y = (best["x1"] + best["x2"]) / 2, (best["y1"] + best["y2"]) / 2
    return points_table(list(zip(best["image_id"], best["finding"], x, y, strict=True)))


def points_table(rows: list[tuple[object, ...]]) -> pd.DataFrame:
    """Columns image_id, finding, x, y; the dtypes are right also without rows."""
    table = pd.DataFrame(rows, columns=_POINT_FIELDS)
    return table.astype({"image_id": object, "finding": object, "x": np.float64, "y": np.float64})


def positive_pairs(truth: CocoBoxes) -> list[tuple[int, int]]:
    """(image, finding) indices of all pairs with a true box, sorted by image."""
    pairs = np.argwhere(TruthIndex(truth).num_true > 0).tolist()
    return [(image, finding) for image, finding in pairs]

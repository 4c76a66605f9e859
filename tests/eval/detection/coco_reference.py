"""pycocotools as the reference of our matching and AP."""

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cxr.boxes import CORNERS
from cxr.coco import CocoBoxes
from eval.detection.matching import IOUS, MAX_DETECTIONS, ClassMatches


def run_pycocotools(truth: CocoBoxes, predictions: CocoBoxes, ious: tuple[float, ...] = IOUS) -> Any:
    """COCOeval after matching and accumulating, with all areas in one range."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco_eval = COCOeval(_coco(truth, truth), _coco(truth, predictions), "bbox")
        params = coco_eval.params
        params.iouThrs, params.maxDets = np.array(ious), [MAX_DETECTIONS]
        params.areaRng, params.areaRngLbl = [[0.0, float("inf")]], ["all"]
        coco_eval.evaluate()
        coco_eval.accumulate()
    return coco_eval


def reference_ap(truth: CocoBoxes, predictions: CocoBoxes, ious: tuple[float, ...] = IOUS) -> np.ndarray[Any, Any]:
    """(T, K) AP; NaN for a class without a true box."""
    precision = run_pycocotools(truth, predictions, ious).eval["precision"][:, :, :, 0, 0]
    return np.where(precision < 0, np.nan, precision).mean(axis=1)


def reference_matches(truth: CocoBoxes, predictions: CocoBoxes, ious: tuple[float, ...] = IOUS) -> list[ClassMatches]:
    """One entry per class."""
    images, num = run_pycocotools(truth, predictions, ious).evalImgs, len(truth.images)
    return [_of_class(images[k * num : (k + 1) * num], name, ious) for k, name in enumerate(truth.findings)]


def _of_class(images: list[Any], finding: str, ious: tuple[float, ...]) -> ClassMatches:
    present = [(i, entry) for i, entry in enumerate(images) if entry is not None]
    num_true = np.zeros(len(images), dtype=np.int64)
    for i, entry in present:
        num_true[i] = int((np.asarray(entry["gtIgnore"]) == 0).sum())
    none = np.zeros((len(ious), 0))
    hit = np.concatenate([none, *(e["dtMatches"] for _, e in present)], axis=1) > 0
    ignored = np.concatenate([none, *(e["dtIgnore"] for _, e in present)], axis=1) > 0
    scores = np.array([s for _, e in present for s in e["dtScores"]], dtype=np.float64)
    image = np.array([i for i, e in present for _ in e["dtScores"]], dtype=np.int64)
    return ClassMatches(finding, tuple(ious), scores, image, hit & ~ignored, ignored, num_true)


def _coco(truth: CocoBoxes, content: CocoBoxes) -> Any:
    """Ids start at 1, because pycocotools takes the id 0 of a matched box for "not matched"."""
    images = {name: i for i, name in enumerate(truth.images["image_id"], start=1)}
    classes = {name: k for k, name in enumerate(truth.findings, start=1)}
    annotations = []
    for index, row in enumerate(content.boxes.to_dict("records"), start=1):
        x1, y1, x2, y2 = (float(row[name]) for name in CORNERS)
        annotations.append(
            {
                "id": index,
                "image_id": images[row["image_id"]],
                "category_id": classes[row["finding"]],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": int(row.get("iscrowd", 0)),
                "score": row["score"],
            }
        )
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number} for number in images.values()],
        "categories": [{"id": number, "name": name} for name, number in classes.items()],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco

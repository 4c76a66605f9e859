"""Average precision as PASCAL VOC 2010 and Kaggle's VinBigData competition count it.

Source: Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, IJCV 2010, section 4.2, and
the development kit of 2010 (area under the whole curve instead of 11 points). Coordinates are
continuous here, without the kit's extra pixel.
"""

from collections.abc import Mapping

import numpy as np

from cxr.boxes import iou_matrix
from cxr.coco import CocoBoxes
from eval.average_precision import Bools, Floats, mean_over_classes
from eval.detection import check_predictions

BOX = ["x1", "y1", "x2", "y2"]


def voc_ap(truth: CocoBoxes, predictions: CocoBoxes, *, iou: float = 0.4) -> dict[str, float]:
    """AP of each class: area under the precision envelope over recall.

    Unlike COCO, a detection is compared only with the true box that it overlaps most (a second one
    on the same box is wrong), detections are not capped, and the area is exact instead of sampled
    at 101 recalls. Returns NaN for a class without a true box. Raises UserError as `evaluate` does.
    """
    check_predictions(truth, predictions)
    return {name: _class_ap(truth, predictions, finding=name, iou=iou) for name in truth.findings}


def voc_mean(aps: Mapping[str, float]) -> float:
    """Mean over the classes that have true boxes; NaN if none has."""
    return float(mean_over_classes(np.array(list(aps.values()), dtype=np.float64)))


def _class_ap(truth: CocoBoxes, predictions: CocoBoxes, *, finding: str, iou: float) -> float:
    true = truth.boxes[truth.boxes["finding"] == finding]
    if "iscrowd" in true:
        true = true[true["iscrowd"] == 0]
    found = predictions.boxes[predictions.boxes["finding"] == finding]
    if not len(true):
        return float("nan")
    if not len(found):
        return 0.0
    found = found.sort_values("score", ascending=False, kind="stable")
    by_image = {str(name): part[BOX].to_numpy(float) for name, part in true.groupby("image_id")}
    boxes = found[BOX].to_numpy(dtype=np.float64)
    hit = _first_hits(found["image_id"].astype(str).tolist(), boxes, by_image, iou=iou)
    return _area(hit, num_true=len(true))


def _first_hits(
    images: list[str], boxes: Floats, true_by_image: Mapping[str, Floats], *, iou: float
) -> Bools:
    """(D,) detections by falling score: is it the first on the true box it overlaps most?"""
    hit = np.zeros(len(images), dtype=bool)
    taken: set[tuple[str, int]] = set()
    for index, image in enumerate(images):
        if image not in true_by_image:
            continue
        overlap = iou_matrix(boxes[index : index + 1], true_by_image[image])[0]
        best = int(overlap.argmax())
        if overlap[best] >= iou and (image, best) not in taken:
            taken.add((image, best))
            hit[index] = True
    return hit


def _area(hit: Bools, *, num_true: int) -> float:
    hits = np.cumsum(hit)
    precision = hits / np.arange(1, len(hit) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[hit].sum() / num_true)

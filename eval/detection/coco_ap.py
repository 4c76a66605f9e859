"""Average precision of scored boxes, by pycocotools.

This is the only file of `eval` that knows pycocotools. One matching serves the AP table, every
interval and every paired comparison (see `eval.stats.bootstrap`).
"""

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cxr.arrays import Floats, mean_over_classes
from cxr.coco import CocoBoxes
from cxr.config import UserError
from eval.detection.average_precision import ClassMatches

COCO_IOUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
IOUS = (0.1, 0.3, 0.4, *COCO_IOUS)
MAX_DETECTIONS = 100
"""COCO's cap of detections an image and class."""


@dataclass(frozen=True)
class DetectionResult:
    """What one set of predictions scored against the truth.

    findings: the classes, in the truth's order. image_ids: the truth's images, in its order.
    ious: (T,) thresholds. table: (T, K) AP in [0, 1], NaN for a class without a true box.
    matches: one `ClassMatches` a class.
    """

    findings: tuple[str, ...]
    image_ids: tuple[str, ...]
    ious: tuple[float, ...]
    table: Floats
    matches: tuple[ClassMatches, ...]

    @property
    def left_out(self) -> tuple[str, ...]:
        """Classes without a true box: they have no AP and enter no mean."""
        return tuple(m.finding for m in self.matches if not m.num_true.any())

    def ap(self, iou: float) -> dict[str, float]:
        """AP of each class at one threshold that was asked for; NaN without a true box."""
        row = self.table[self._row(iou)]
        return {name: float(value) for name, value in zip(self.findings, row, strict=True)}

    def mean_ap(self, iou: float) -> float:
        """Mean of `ap(iou)` over the classes that have true boxes; NaN if none has."""
        return float(mean_over_classes(self.table[self._row(iou)]))

    def ap5095(self) -> dict[str, float]:
        """COCO's AP averaged over IoU .50 to .95, for each class."""
        rows = self.table[[self._row(iou) for iou in COCO_IOUS]].mean(axis=0)
        return {name: float(value) for name, value in zip(self.findings, rows, strict=True)}

    def mean_ap5095(self) -> float:
        """Mean of `ap5095()` over the classes that have true boxes; NaN if none has."""
        return float(mean_over_classes(np.array(list(self.ap5095().values()))))

    def _row(self, iou: float) -> int:
        for index, known in enumerate(self.ious):
            if abs(known - iou) < 1e-9:
                return index
        raise ValueError(f"AP at IoU {iou} was not asked for; have {list(self.ious)}")


def evaluate(truth: CocoBoxes, predictions: CocoBoxes, *, ious: tuple[float, ...] = IOUS) -> DetectionResult:
    """Score predictions as COCO does: all areas, 100 detections an image and class.

    Images and classes are those of the truth. A column "iscrowd" of the truth's boxes, where there
    is one, marks regions in which detections count neither as right nor as wrong.

    Raises UserError when predictions name unknown images or classes, or lack a finite score.
    """
    check_predictions(truth, predictions)
    image_ids = tuple(truth.images["image_id"].astype(str))
    coco_eval = _run_coco(truth, predictions, ious)
    table = _ap_table(coco_eval)
    matches = _class_matches(coco_eval, truth.findings, ious)
    return DetectionResult(tuple(truth.findings), image_ids, tuple(ious), table, matches)


def check_predictions(truth: CocoBoxes, predictions: CocoBoxes) -> None:
    """Raise one UserError with every reason why these predictions cannot be scored."""
    problems: list[str] = []
    boxes = predictions.boxes
    for column, known in (("image_id", truth.images["image_id"]), ("finding", truth.findings)):
        unknown = sorted(set(boxes[column].astype(str)) - {str(name) for name in known})
        if unknown:
            what = "images" if column == "image_id" else "classes"
            shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            problems.append(
                f"predictions name {len(unknown)} {what} that the truth does not have: {shown}; "
                f"score them against the truth of the same {what}"
            )
    if len(boxes) and ("score" not in boxes or not np.isfinite(_scores(boxes)).all()):
        problems.append("predictions lack a finite score; every predicted box needs one")
    if problems:
        raise UserError(problems)


def _scores(boxes: pd.DataFrame) -> Floats:
    return boxes["score"].to_numpy(dtype=np.float64)


def _run_coco(truth: CocoBoxes, predictions: CocoBoxes, ious: tuple[float, ...]) -> Any:
    """Match and accumulate; pycocotools prints its progress, which nobody asked for."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco_eval = COCOeval(_coco(truth, truth), _coco(truth, predictions), "bbox")
        params = coco_eval.params
        params.iouThrs = np.array(ious)
        params.areaRng, params.areaRngLbl = [[0.0, float("inf")]], ["all"]
        params.maxDets = [MAX_DETECTIONS]
        coco_eval.evaluate()
        coco_eval.accumulate()
    return coco_eval


def _coco(truth: CocoBoxes, content: CocoBoxes) -> Any:
    """pycocotools' index over `content`, numbered by the images and classes of the truth.

    Numbers start at 1: pycocotools takes the id 0 of a matched box for "not matched".
    """
    image_number = {str(name): i for i, name in enumerate(truth.images["image_id"], start=1)}
    class_number = {name: k for k, name in enumerate(truth.findings, start=1)}
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number} for number in image_number.values()],
        "categories": [{"id": number, "name": name} for name, number in class_number.items()],
        "annotations": _annotations(content.boxes, image_number, class_number),
    }
    coco.createIndex()
    return coco


def _annotations(
    boxes: pd.DataFrame, image_number: dict[str, int], class_number: dict[str, int]
) -> list[dict[str, Any]]:
    xyxy = boxes[["x1", "y1", "x2", "y2"]].to_numpy(dtype=np.float64)
    size = xyxy[:, 2:] - xyxy[:, :2]
    score = _scores(boxes) if "score" in boxes else np.full(len(boxes), np.nan)
    crowd = boxes["iscrowd"].to_numpy(dtype=int) if "iscrowd" in boxes else [0] * len(boxes)
    names = zip(boxes["image_id"].astype(str), boxes["finding"].astype(str), strict=True)
    return [
        {
            "id": index + 1,
            "image_id": image_number[image],
            "category_id": class_number[finding],
            "bbox": [*xyxy[index, :2].tolist(), *size[index].tolist()],
            "area": float(size[index].prod()),
            "iscrowd": int(crowd[index]),
            "score": float(score[index]),
        }
        for index, (image, finding) in enumerate(names)
    ]


def _ap_table(coco_eval: Any) -> Floats:
    """(T, K): mean of pycocotools' 101 precisions, its -1 (class without a true box) as NaN."""
    precision = coco_eval.eval["precision"][:, :, :, 0, 0]
    return np.where(precision[:, 0] < 0, np.nan, precision.mean(axis=1))


def _class_matches(
    coco_eval: Any, findings: tuple[str, ...], ious: tuple[float, ...]
) -> tuple[ClassMatches, ...]:
    """Collect pycocotools' matching of each (class, image); it lists class by class."""
    num_images = len(coco_eval.params.imgIds)
    return tuple(
        _one_class(coco_eval.evalImgs[k * num_images : (k + 1) * num_images], finding, tuple(ious))
        for k, finding in enumerate(findings)
    )


def _one_class(images: list[dict[str, Any] | None], finding: str, ious: tuple[float, ...]) -> ClassMatches:
    present = [(i, e) for i, e in enumerate(images) if e is not None]
    num_true = np.zeros(len(images), dtype=np.int64)
    for i, e in present:
        num_true[i] = int((np.asarray(e["gtIgnore"]) == 0).sum())
    none: Floats = np.zeros((len(ious), 0))
    hit = np.concatenate([none, *(e["dtMatches"] for _, e in present)], axis=1) > 0
    ignored = np.concatenate([none, *(e["dtIgnore"] for _, e in present)], axis=1) > 0
    return ClassMatches(
        finding=finding,
        ious=ious,
        scores=np.array([s for _, e in present for s in e["dtScores"]], dtype=np.float64),
        image=np.array([i for i, e in present for _ in e["dtScores"]], dtype=np.int64),
        hit=hit & ~ignored,
        ignored=ignored,
        num_true=num_true,
    )

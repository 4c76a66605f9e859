"""Box rules tuned a finding at a time on the tune split, by the metric that is reported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.coco import CocoBoxes, boxes_table
from cxr.geometry import Resize
from eval.detection import evaluate
from stage2_pseudolabel.boxes_from_cam import BoxRule, boxes_from_map
from stage2_pseudolabel.config import BoxSettings

PRIMARY_IOU = 0.4

Maps = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """How maps lie over the images: the network's input size, and whether pictures were letterboxed into it."""

    net_hw: tuple[int, int]
    keep_aspect: bool

    def to_image(
        self, boxes_norm: npt.NDArray[np.float64], image_hw: tuple[int, int]
    ) -> npt.NDArray[np.float64]:
        """(N, 4) boxes in shares of the map to pixels of the image, cut to it."""
        height, width = self.net_hw
        resize = Resize(image_hw, self.net_hw, self.keep_aspect)
        boxes = resize.boxes_to_image(boxes_norm * [width, height, width, height])
        return np.clip(boxes, 0, [image_hw[1], image_hw[0], image_hw[1], image_hw[0]])


def detect(
    maps: Maps, probabilities: Probabilities, truth: CocoBoxes, rules: Sequence[BoxRule], *, frame: Frame
) -> pd.DataFrame:
    """Boxes of every finding in every image, without a gate: score = probability x evidence.

    Args:
        maps: (N, K, h, w), images and findings in the order of `truth`.
        probabilities: (N, K).
        rules: (K,), one a finding.

    Returns:
        table of cxr.coco.BOX_FIELDS.
    """
    rows: list[tuple[object, ...]] = []
    images = truth.images[["image_id", "height", "width"]].to_numpy().tolist()
    for index, (image_id, height, width) in enumerate(images):
        for column, finding in enumerate(truth.findings):
            boxes, evidence = boxes_from_map(maps[index, column], rules[column])
            pixels = frame.to_image(boxes, (int(height), int(width)))
            scores = probabilities[index, column] * evidence
            rows += [(image_id, finding, *box, score) for box, score in zip(pixels, scores, strict=True)]
    return boxes_table(rows)


def candidate_rules(settings: BoxSettings, maps: Maps) -> list[BoxRule]:
    """Every rule that is tried for one finding; `maps` (N, h, w) of the tune split give the absolute levels."""
    levels: list[tuple[str, float]] = []
    if "relative" in settings.normalizations:
        levels += [("relative", threshold) for threshold in settings.relative_thresholds]
    if "absolute" in settings.normalizations:
        levels += [("absolute", float(np.quantile(maps, q))) for q in settings.absolute_quantiles]
    return [
        BoxRule(kind, threshold, count, settings.min_area, settings.upsample)  # type: ignore[arg-type]
        for (kind, threshold), count in product(levels, settings.max_boxes)
    ]


def tune_rules(
    maps: Maps, probabilities: Probabilities, truth: CocoBoxes, settings: BoxSettings, *, frame: Frame
) -> tuple[list[BoxRule], dict[str, float]]:
    """The rule of each finding with the highest AP at IoU .4 on the tune split, and that AP.

    Findings are judged side by side: the i-th candidates of all findings make one evaluation. Of equally good
    rules the first wins. A finding without a true box in the tune split takes the middle candidate and has AP NaN.
    """
    candidates = [candidate_rules(settings, maps[:, column]) for column in range(len(truth.findings))]
    num_candidates = len(candidates[0])
    scores = np.stack(
        [
            _ap_of(maps, probabilities, truth, [column[i] for column in candidates], frame)
            for i in range(num_candidates)
        ]
    )
    best = [_best_row(scores[:, column]) for column in range(scores.shape[1])]
    rules = [candidates[column][row] for column, row in enumerate(best)]
    reached = {
        finding: float(scores[row, column])
        for column, (finding, row) in enumerate(zip(truth.findings, best, strict=True))
    }
    return rules, reached


def _ap_of(
    maps: Maps, probabilities: Probabilities, truth: CocoBoxes, rules: Sequence[BoxRule], frame: Frame
) -> npt.NDArray[np.float64]:
    detections = truth.with_boxes(detect(maps, probabilities, truth, rules, frame=frame))
    result = evaluate(truth, detections, ious=(PRIMARY_IOU,))
    return np.array([result.ap(PRIMARY_IOU)[finding] for finding in truth.findings])


def _best_row(scores: npt.NDArray[np.float64]) -> int:
    if np.isnan(scores).all():
        return len(scores) // 2
    return int(np.nanargmax(scores))


def mean_of(aps: Mapping[str, float]) -> float:
    """Mean over the findings that have a score; NaN when none has."""
    values = [value for value in aps.values() if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")

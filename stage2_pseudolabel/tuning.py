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
from stage2_pseudolabel.bayes_rule import BayesRule, Candidates
from stage2_pseudolabel.boxes_from_cam import ComponentRule, Rule
from stage2_pseudolabel.config import BoxSettings

PRIMARY_IOU = 0.4

Maps = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """Maps (N, K, h, w) by one method and probabilities (N, K) of N images and K findings."""

    maps: Maps
    probabilities: Probabilities


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

    def from_image(
        self, boxes: npt.NDArray[np.float64], image_hw: tuple[int, int]
    ) -> npt.NDArray[np.float64]:
        """(N, 4) boxes in pixels of the image to shares of the map."""
        height, width = self.net_hw
        resize = Resize(image_hw, self.net_hw, self.keep_aspect)
        return resize.boxes_to_net(boxes) / [width, height, width, height]


def detect(
    scored: Scored,
    truth: CocoBoxes,
    rules: Sequence[Rule],
    *,
    frame: Frame,
    leave_own_out: bool = False,
) -> pd.DataFrame:
    """Boxes of every finding in every image, without a gate: score = probability x evidence.

    Args:
        scored: images and findings in the order of `truth`.
        rules: (K,), one a finding.
        leave_own_out: true boxes of the image's own patient are no candidates; needed where rules come from `truth`.

    Returns:
        table of cxr.coco.BOX_FIELDS.
    """
    rows: list[tuple[object, ...]] = []
    images = truth.images[["image_id", "height", "width"]].to_numpy().tolist()
    groups = truth.groups
    for index, (image_id, height, width) in enumerate(images):
        for column, finding in enumerate(truth.findings):
            own = groups[index] if leave_own_out else ""
            boxes, evidence = rules[column].boxes(scored.maps[index, column], exclude=own)
            pixels = frame.to_image(boxes, (int(height), int(width)))
            scores = scored.probabilities[index, column] * evidence
            rows += [(image_id, finding, *box, score) for box, score in zip(pixels, scores, strict=True)]
    return boxes_table(rows)


def candidate_rules(settings: BoxSettings, maps: Maps, candidates: Candidates) -> list[Rule]:
    """Every rule that is tried for one finding; `maps` (N, h, w) of the tune split give the absolute levels."""
    rules: list[Rule] = []
    if "relative" in settings.rules:
        for threshold, count in product(settings.relative_thresholds, settings.max_boxes):
            rules.append(ComponentRule("relative", threshold, count, settings.min_area, settings.upsample))
    if "absolute" in settings.rules:
        for quantile, count in product(settings.absolute_quantiles, settings.max_boxes):
            level = float(np.quantile(maps, quantile)) if maps.size else 0.0
            rules.append(ComponentRule("absolute", level, count, settings.min_area, settings.upsample))
    if "bayes" in settings.rules:
        for beta, count in product(settings.bayes_betas, settings.max_boxes):
            rules.append(BayesRule(candidates, beta=beta, max_boxes=count))
    return rules


def box_candidates(truth: CocoBoxes, finding: str, frame: Frame, *, max_candidates: int) -> Candidates:
    """The finding's true boxes as candidates; an even sample of them where there are more than `max_candidates`."""
    own = truth.boxes[truth.boxes["finding"] == finding]
    if len(own) > max_candidates:
        own = own.iloc[np.linspace(0, len(own) - 1, max_candidates).round().astype(int)]
    size_of = truth.images.set_index("image_id")[["height", "width"]].astype(int)
    boxes = [
        frame.from_image(np.array([[row.x1, row.y1, row.x2, row.y2]]), tuple(size_of.loc[row.image_id]))
        for row in own.itertuples()
    ]
    group_of = dict(zip(truth.images["image_id"], truth.groups, strict=True))
    return Candidates(np.concatenate([np.zeros((0, 4)), *boxes]), tuple(own["image_id"].map(group_of)))


def tune_rules(
    scored: Scored, truth: CocoBoxes, settings: BoxSettings, *, frame: Frame
) -> tuple[list[Rule], dict[str, float]]:
    """The rule of each finding with the highest AP at IoU .4 on the tune split, and that AP.

    Findings are judged side by side: the i-th rules of all findings make one evaluation. Of equally good rules the
    first wins. A finding without a true box in the tune split takes the first rule and has AP NaN.
    """
    tried = [
        candidate_rules(
            settings,
            scored.maps[:, column],
            box_candidates(truth, finding, frame, max_candidates=settings.max_candidates),
        )
        for column, finding in enumerate(truth.findings)
    ]
    scores = np.stack([_ap_of(scored, truth, rules, frame) for rules in zip(*tried, strict=True)])
    best = np.argmax(np.nan_to_num(scores, nan=-1.0), axis=0)
    rules = [tried[column][row] for column, row in enumerate(best)]
    reached = {finding: float(scores[best[column], column]) for column, finding in enumerate(truth.findings)}
    return rules, reached


def _ap_of(scored: Scored, truth: CocoBoxes, rules: Sequence[Rule], frame: Frame) -> npt.NDArray[np.float64]:
    found = detect(scored, truth, rules, frame=frame, leave_own_out=True)
    result = evaluate(truth, truth.with_boxes(found), ious=(PRIMARY_IOU,))
    return np.array([result.ap(PRIMARY_IOU)[finding] for finding in truth.findings])


def mean_of(aps: Mapping[str, float]) -> float:
    """Mean over the findings that have a score; NaN when none has."""
    values = [value for value in aps.values() if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")

"""The detector on the test split beside the CAM teacher and the priors: AP, intervals, verdict."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxr.coco import CocoBoxes, read_coco
from cxr.labels import slug
from cxr.runs import FinishedRun
from eval.bootstrap import (
    Difference,
    Interval,
    bootstrap_class_ap,
    bootstrap_difference,
    bootstrap_mean_ap,
)
from eval.detection import DetectionResult, evaluate
from eval.voc import voc_ap, voc_mean

DETECTOR, TEACHER = "detector", "teacher"
PRIORS = ("prior_mean_box", "prior_center_box")
MAIN_IOU = 0.4
OTHER_IOUS = (0.1, 0.3, 0.5, 0.7)


@dataclass(frozen=True)
class Scored:
    """One set of predictions against the truth; AP at IoU .4 with its intervals."""

    predictions: CocoBoxes
    result: DetectionResult
    mean: Interval
    per_class: Mapping[str, Interval]


@dataclass(frozen=True)
class Comparison:
    """Everything that the report shows. `scored` holds detector, teacher and the priors by name."""

    truth: CocoBoxes
    scored: Mapping[str, Scored]
    difference: Difference
    teacher_method: str


def compare_with_teacher(
    detections: CocoBoxes, stage2: FinishedRun, *, num_resamples: int, seed: int
) -> Comparison:
    """Score the detections and, on the same images in the same resamples, stage 2's best method and priors.

    The bootstrap draws patients, so the two halves of one picture stay together.
    """
    truth = read_coco(stage2.output("gt_test"))
    method = str(stage2.manifest["best_method"])
    predictions = {DETECTOR: detections, TEACHER: read_coco(stage2.output(f"detections_{method}"))}
    predictions |= {name: read_coco(stage2.output(f"detections_{name}")) for name in PRIORS}
    groups = truth.groups
    scored = {
        name: _score(truth, coco, groups, num_resamples=num_resamples, seed=seed)
        for name, coco in predictions.items()
    }
    pair = scored[DETECTOR].result.matches, scored[TEACHER].result.matches
    difference = bootstrap_difference(pair, groups, iou=MAIN_IOU, num_resamples=num_resamples, seed=seed)
    return Comparison(truth, scored, difference, method)


def _score(
    truth: CocoBoxes, predictions: CocoBoxes, groups: list[str], *, num_resamples: int, seed: int
) -> Scored:
    result = evaluate(truth, predictions)
    mean = bootstrap_mean_ap(result.matches, groups, iou=MAIN_IOU, num_resamples=num_resamples, seed=seed)
    per_class = bootstrap_class_ap(
        result.matches, groups, iou=MAIN_IOU, num_resamples=num_resamples, seed=seed
    )
    return Scored(predictions, result, mean, per_class)


def comparison_metrics(comparison: Comparison) -> dict[str, float | None]:
    """Flat figures by DESIGN's names; NaN stands for a class without a true box."""
    metrics: dict[str, float | None] = {}
    for name, scored in comparison.scored.items():
        metrics |= _with_interval(f"ap40/{name}", scored.result.mean_ap(MAIN_IOU), scored.mean)
        for finding, value in scored.result.ap(MAIN_IOU).items():
            metrics |= _with_interval(f"ap40/{name}/{slug(finding)}", value, scored.per_class[finding])
        metrics |= {f"ap{round(iou * 100)}/{name}": scored.result.mean_ap(iou) for iou in OTHER_IOUS}
        metrics[f"ap5095/{name}"] = scored.result.mean_ap5095()
    metrics[f"voc40/{DETECTOR}"] = voc40(comparison)
    gap = comparison.difference
    return metrics | _with_interval("ap40/detector_minus_teacher", gap.value, Interval(gap.low, gap.high))


def voc40(comparison: Comparison) -> float:
    """Kaggle's form of AP at IoU .4, mean over the classes that have boxes."""
    return voc_mean(voc_ap(comparison.truth, comparison.scored[DETECTOR].predictions, iou=MAIN_IOU))


def timing_metrics(
    milliseconds: npt.NDArray[np.float64], stage2: FinishedRun, method: str
) -> dict[str, float | None]:
    """Milliseconds an image from decoding to boxes, median and 99th percentile, beside the teacher's."""
    teacher = stage2.metrics.get(f"ms_per_image/{method}")
    if not len(milliseconds):
        return {f"ms_per_image/{DETECTOR}": None, f"ms_per_image/{TEACHER}": teacher}
    return {
        f"ms_per_image/{DETECTOR}": float(np.median(milliseconds)),
        f"ms_per_image/{DETECTOR}/p99": float(np.percentile(milliseconds, 99)),
        f"ms_per_image/{TEACHER}": teacher,
    }


def verdict(comparison: Comparison) -> str:
    """One sentence: is the detector better than its teacher, worse, or can one not tell?"""
    gap = comparison.difference
    figures = f"AP40 {gap.value:+.3f}, 95 % interval {gap.low:+.3f} to {gap.high:+.3f}"
    if not gap.is_clear:
        return f"No clear difference between the detector and its CAM teacher ({figures})."
    word = "better" if gap.value > 0 else "worse"
    return f"The detector is clearly {word} than its CAM teacher ({figures})."


def _with_interval(name: str, value: float, interval: Interval) -> dict[str, float | None]:
    return {name: value, f"{name}/low": interval.low, f"{name}/high": interval.high}

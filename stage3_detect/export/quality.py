"""Figures of one exported form beside the trained network: differences, AP and its loss, milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cxr.coco import CocoBoxes
from cxr.imaging.files import Pixels, read_pixels
from eval.detection.average_precision import bootstrap_difference, bootstrap_mean_ap
from eval.detection.coco_ap import DetectionResult, evaluate
from stage3_detect.export.agreement import compare_networks, require_agreement
from stage3_detect.model.correction import NO_CORRECTION, BoxCorrection
from stage3_detect.model.network import Network
from stage3_detect.model.predict import Milliseconds, predict_images
from stage3_detect.settings.detector import DetectSettings

Metrics = dict[str, float | None]

MAIN_IOU = 0.4
EXACT_FORMS = ("onnx", "openvino_fp32")
"""They calculate as the trained network does, in 32 bits."""

_NUM_TIMED = 100
"""Test images that time a form whose AP need not be measured."""

_MUCH_AP = 0.02


@dataclass(frozen=True)
class Yardstick:
    """What forms are measured on: the test images with their true boxes, and the trained network's detections there,
    with the correction of its boxes."""

    truth: CocoBoxes
    detections: CocoBoxes
    settings: DetectSettings
    correction: BoxCorrection = NO_CORRECTION

    def pictures(self) -> list[Pixels]:
        """The first `num_checks` test pictures."""
        root = Path(self.truth.info["data_root"])
        records = self.truth.images.head(self.settings.export.num_checks).to_dict("records")
        return [read_pixels(root / record["path"], region=record["region"]) for record in records]


def measure_form(form: str, network: Network, reference: Network, test: Yardstick) -> Metrics:
    """Flat figures of a form; NaN or None where the test split has no image or no true box.

    An exact form must agree within 1 px and 1e-3 in score, and its AP is then that of the trained network; of the
    others differences are stated, and the AP on the whole test split with what it loses.

    Raises:
        RuntimeError: an exact form differs, which is a bug.
    """
    predict = test.settings.predict
    agreement = compare_networks(test.pictures(), reference, network, min_score=predict.min_score)
    metrics: Metrics = {
        f"export/{form}/box_difference_px": agreement.box_px,
        f"export/{form}/score_difference": agreement.score,
    }
    if form in EXACT_FORMS:
        require_agreement(agreement, form)
        few = replace(test.truth, images=test.truth.images.head(_NUM_TIMED))
        _, milliseconds = predict_images(few, network, predict, correction=test.correction)
    else:
        detections, milliseconds = predict_images(test.truth, network, predict, correction=test.correction)
        metrics |= _accuracy(form, detections, test)
    return metrics | _times(form, milliseconds)


def warning_of(form: str, metrics: Metrics) -> str | None:
    """One line where a form clearly loses much."""
    loss, low = (metrics.get(f"export/{form}/ap40_loss{end}") for end in ("", "/low"))
    if loss is None or low is None or not (loss > _MUCH_AP and low > 0):
        return None
    high = metrics[f"export/{form}/ap40_loss/high"]
    return (
        f"{form} loses {loss:.3f} of AP40 against the trained network (95 % interval {low:.3f} to {high:.3f}); "
        f"deploy openvino_fp16 or openvino_fp32, or raise export.num_calibration_images"
    )


def _accuracy(form: str, detections: CocoBoxes, test: Yardstick) -> Metrics:
    """AP at IoU .4 and its loss against the trained network: the same images in the same resamples."""
    count, seed = test.settings.num_resamples, test.settings.seed
    trained, exported = (_scored(test.truth, side) for side in (test.detections, detections))
    groups = test.truth.groups
    interval = bootstrap_mean_ap(exported.matches, groups, iou=MAIN_IOU, num_resamples=count, seed=seed)
    pair = (trained.matches, exported.matches)
    loss = bootstrap_difference(pair, groups, iou=MAIN_IOU, num_resamples=count, seed=seed)
    return {
        f"export/{form}/ap40": exported.mean_ap(MAIN_IOU),
        f"export/{form}/ap40/low": interval.low,
        f"export/{form}/ap40/high": interval.high,
        f"export/{form}/ap40_loss": loss.value,
        f"export/{form}/ap40_loss/low": loss.low,
        f"export/{form}/ap40_loss/high": loss.high,
    }


def _scored(truth: CocoBoxes, detections: CocoBoxes) -> DetectionResult:
    return evaluate(truth, detections, ious=(MAIN_IOU,))


def _times(form: str, milliseconds: Milliseconds | Sequence[float]) -> Metrics:
    name = f"ms_per_image/detector_{form}"
    if not len(milliseconds):
        return {name: None, f"{name}/p99": None}
    return {name: float(np.median(milliseconds)), f"{name}/p99": float(np.percentile(milliseconds, 99))}

"""Compare an exported network with the trained one: raw outputs, AP on the test split, milliseconds per image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cxr.coco import CocoBoxes
from cxr.imaging.files import Pixels, read_pixels
from cxr.metrics import Metrics
from eval.detection.average_precision import main_ap_measure
from eval.stats.bootstrap import resample_counts
from eval.stats.measures import bootstrap, difference, interval_figures
from stage3_detect.model.correction import NO_CORRECTION, BoxCorrection
from stage3_detect.model.network import Network, RawOutput, to_net
from stage3_detect.model.predict import Milliseconds, predict_images
from stage3_detect.settings.detector import Stage3Settings

MAX_BOX_DIFFERENCE_PX = 1.0
MAX_SCORE_DIFFERENCE = 1e-3

EXACT_FORMATS = ("onnx", "openvino_fp32")
"""Formats that compute in 32 bits, as the trained network does."""

_NUM_TIMED = 100
"""Test images for the timing of an exact format."""

_LARGE_LOSS = 0.02


@dataclass(frozen=True)
class ExportReference:
    """What exported files are compared with.

    truth: test images with true boxes. detections: of the trained network on these. correction: applied to its boxes.
    """

    truth: CocoBoxes
    detections: CocoBoxes
    settings: Stage3Settings
    correction: BoxCorrection = NO_CORRECTION

    def pictures(self) -> list[Pixels]:
        """The first `export.num_check_images` test pictures."""
        root = Path(self.truth.info["data_root"])
        records = self.truth.images.head(self.settings.export.num_check_images).to_dict("records")
        return [read_pixels(root / record["path"], region=record["region"]) for record in records]


class Agreement(NamedTuple):
    """Largest differences between exported and trained network: box corners in original pixels, and scores."""

    box_px: float
    score: float

    @property
    def holds(self) -> bool:
        """At most 1 px and 1e-3."""
        return self.box_px <= MAX_BOX_DIFFERENCE_PX and self.score <= MAX_SCORE_DIFFERENCE


def measure_format(name: str, network: Network, trained: Network, reference: ExportReference) -> Metrics:
    """Metrics of the export format `name`; None or NaN if the test split has no image or no true box.

    An exact format must agree with the trained network within 1 px and 1e-3 in score, so it has the same AP. For other
    formats the AP on the whole test split and its loss are measured.

    Raises:
        RuntimeError: an exact format differs, which is a bug.
    """
    predict = reference.settings.predict
    agreement = compare_networks(reference.pictures(), trained, network, min_score=predict.min_score)
    metrics: Metrics = {
        f"export/{name}/box_difference_px": agreement.box_px,
        f"export/{name}/score_difference": agreement.score,
    }
    images = reference.truth
    if name in EXACT_FORMATS:
        require_agreement(agreement, name)
        images = replace(images, images=images.images.head(_NUM_TIMED))
    detections, milliseconds = predict_images(images, network, predict, correction=reference.correction)
    if name not in EXACT_FORMATS:
        metrics |= _accuracy(name, detections, reference)
    return metrics | speed_figures(f"ms_per_image/detector_{name}", milliseconds)


def warning_of(name: str, metrics: Metrics) -> str | None:
    """One line if the format loses more than .02 of AP40 and the interval excludes zero."""
    loss, low = (metrics.get(f"export/{name}/ap40_loss{end}") for end in ("", "/low"))
    if loss is None or low is None or not (loss > _LARGE_LOSS and low > 0):
        return None
    high = metrics[f"export/{name}/ap40_loss/high"]
    advice = f"use {' or '.join(EXACT_FORMATS)}"
    if name == "openvino_int8":
        advice = "use openvino_fp16 or openvino_fp32, or raise export.num_calibration_images"
    return (
        f"{name} loses {loss:.3f} of AP40 compared with the trained network "
        f"(95 % interval {low:.3f} to {high:.3f}); {advice}"
    )


def _accuracy(name: str, detections: CocoBoxes, reference: ExportReference) -> Metrics:
    """AP40 and its loss compared with the trained network, on the same bootstrap resamples."""
    truth, settings = reference.truth, reference.settings
    counts = resample_counts(truth.groups, num_resamples=settings.num_resamples, seed=settings.seed)
    trained, exported = (bootstrap(main_ap_measure(truth, own), counts) for own in (reference.detections, detections))
    loss = difference(trained, exported)
    return {
        **interval_figures(f"export/{name}/ap40", exported.mean, exported.mean_interval),
        **interval_figures(f"export/{name}/ap40_loss", loss.value, loss),
    }


def speed_figures(key: str, milliseconds: Milliseconds) -> Metrics:
    """Median and 99th percentile of the milliseconds per image; None without an image."""
    if not len(milliseconds):
        return {key: None, f"{key}/p99": None}
    return {key: float(np.median(milliseconds)), f"{key}/p99": float(np.percentile(milliseconds, 99))}


def compare_networks(images: Sequence[Pixels], trained: Network, exported: Network, *, min_score: float) -> Agreement:
    """Compare raw outputs, before NMS, over every anchor that can become a box.

    Args:
        images: pictures (H, W).
        min_score: boxes of anchors with a lower score are not compared.
    """
    box_px, score = 0.0, 0.0
    for image in images:
        net_image, resize = to_net(image, trained.image_px)
        expected, got = trained(net_image), exported(net_image)
        compare = _compare_rows if expected.shape[1] == 6 else _compare_anchors
        net_px, difference = compare(expected, got, min_score)
        scale = max(resize.image_hw[0] / resize.content_hw[0], resize.image_hw[1] / resize.content_hw[1])
        box_px, score = max(box_px, scale * net_px), max(score, difference)
    return Agreement(box_px, score)


def require_agreement(agreement: Agreement, name: str) -> None:
    """RuntimeError if the exported file does not compute what the trained network does: a bug."""
    if not agreement.holds:
        raise RuntimeError(
            f"the {name} file differs from the PyTorch model by {agreement.box_px:.3g} px and {agreement.score:.3g} in "
            f"score; the limits are {MAX_BOX_DIFFERENCE_PX} px and {MAX_SCORE_DIFFERENCE}"
        )


def _compare_anchors(expected: RawOutput, got: RawOutput, min_score: float) -> tuple[float, float]:
    """(4 + K, anchors) each: largest difference of corners in network pixels, and of scores."""
    counts = expected[4:].max(axis=0) >= min_score
    centres, sizes = (expected[part] - got[part] for part in (slice(0, 2), slice(2, 4)))
    corners = np.abs(centres[:, counts]) + np.abs(sizes[:, counts]) / 2
    return _largest(corners), _largest(expected[4:] - got[4:])


def _compare_rows(expected: RawOutput, got: RawOutput, min_score: float) -> tuple[float, float]:
    """(M, 6) each. Rows with nearly equal scores may swap, so each is compared with the nearest of its class."""
    # near the lowest score one output may have cut off what the other keeps
    floor = max(min_score, float(expected[:, 4].min(initial=1.0)) + MAX_SCORE_DIFFERENCE)
    rows = expected[expected[:, 4] >= floor]
    corners = np.abs(rows[:, None, :4] - got[None, :, :4]).max(axis=2)
    corners[rows[:, None, 5] != got[None, :, 5]] = np.inf
    nearest = corners.argmin(axis=1) if len(got) else np.zeros(0, dtype=int)
    return _largest(corners.min(axis=1, initial=np.inf)), _largest(rows[:, 4] - got[nearest, 4])


def _largest(difference: RawOutput) -> float:
    return float(np.abs(difference).max()) if difference.size else 0.0

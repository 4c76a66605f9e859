"""How AP depends on the number of true boxes to tune on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxr.coco import CocoBoxes
from eval.detection.average_precision import main_ap_measure
from eval.stats.bootstrap import Counts, resample_counts
from eval.stats.intervals import Resampled
from eval.stats.measures import bootstrap
from stage2_pseudolabel.boxes.detect import Scored, detect
from stage2_pseudolabel.boxes.fused_rule import fused_rules
from stage2_pseudolabel.boxes.map_geometry import Frame
from stage2_pseudolabel.boxes.search import tune_rules
from stage2_pseudolabel.settings.boxes import BoxSettings

SIZES = (10, 30, 100, None)
"""Numbers of tune boxes over all findings; None: all."""

NUM_REPEATS = 5
"""Samples of tune images for each size."""

NUM_RESAMPLES = 200
"""Bootstrap resamples of the test images for each sample of tune images."""


@dataclass(frozen=True)
class SizePoint:
    """Test AP40 of rules that are tuned on few boxes.

    size: number of boxes asked for; None: all. num_boxes, num_images: their mean numbers in the samples of tune images.
    ap40: mean over findings and samples. low, high: 95 % interval over the samples and bootstrap resamples of the test
    images. draws: mean AP40 of each sample.
    """

    size: int | None
    num_boxes: float
    num_images: float
    ap40: float
    low: float
    high: float
    draws: tuple[float, ...]


def sample_size_curve(
    tune: tuple[Scored, CocoBoxes],
    test: tuple[Scored, CocoBoxes],
    settings: BoxSettings,
    *,
    frame: Frame,
    sizes: Sequence[int | None] = SIZES,
    seed: int,
) -> list[SizePoint]:
    """Tune rules on random parts of the tune images and score them on the test images.

    Images with or without boxes are sampled until they have as many boxes over all findings as a size asks for. A
    finding without any gets the simplest rule (see `tune_rules`). Sizes larger than the tune split are skipped.

    Args:
        tune, test: maps and true boxes of the two splits.
        sizes: numbers of boxes, each sampled NUM_REPEATS times; None: all, once.
    """
    counts = resample_counts(test[1].groups, num_resamples=NUM_RESAMPLES, seed=seed)
    rng = np.random.default_rng(seed)
    points = []
    for size in sizes:
        if size is not None and size > len(tune[1].without_ignored().boxes):
            continue
        samples = [sample_images(tune[1], size, rng) for _ in range(1 if size is None else NUM_REPEATS)]
        parts = [_part(tune, rows) for rows in samples]
        results = [_test_ap(part, test, settings, frame=frame, counts=counts) for part in parts]
        values = [result.value for result in results]
        interval = _pooled(results).interval
        points.append(
            SizePoint(
                size,
                float(np.mean([len(truth.without_ignored().boxes) for _, truth in parts])),
                float(np.mean([len(rows) for rows in samples])),
                float(np.mean(values)),
                interval.low,
                interval.high,
                tuple(values),
            )
        )
    return points


def sample_images(truth: CocoBoxes, size: int | None, rng: np.random.Generator) -> list[int]:
    """Rows of images sampled without replacement until they have `size` boxes or more; all rows for None."""
    if size is None:
        return list(range(len(truth.images)))
    boxes_of = truth.without_ignored().boxes["image_id"].value_counts()
    order = rng.permutation(len(truth.images))
    held = np.cumsum(truth.images["image_id"].map(boxes_of).fillna(0).to_numpy()[order])
    return sorted(order[: int(np.searchsorted(held, size)) + 1].tolist())


def _part(tune: tuple[Scored, CocoBoxes], rows: list[int]) -> tuple[Scored, CocoBoxes]:
    scored, truth = tune
    images = truth.images.iloc[rows].reset_index(drop=True)
    boxes = truth.boxes[truth.boxes["image_id"].isin(images["image_id"])].reset_index(drop=True)
    part = CocoBoxes(images, boxes, truth.findings, truth.info)
    return scored.of(rows, slice(None)), part


def _pooled(results: Sequence[Resampled]) -> Resampled:
    """The mean over samples of tune images, with the resamples of all of them."""
    samples = np.concatenate([result.samples for result in results])
    return Resampled(float(np.mean([result.value for result in results])), samples, results[0].num_cases)


def _test_ap(
    part: tuple[Scored, CocoBoxes],
    test: tuple[Scored, CocoBoxes],
    settings: BoxSettings,
    *,
    frame: Frame,
    counts: Counts,
) -> Resampled:
    """Mean test AP40 of rules tuned on the part."""
    on_part, boxes = part
    scored, truth = test
    rules = fused_rules([tune_rules(one, boxes, settings, frame=frame).rules for one in on_part.by_method])
    found = truth.with_boxes(detect(scored, truth, rules, frame=frame))
    return bootstrap(main_ap_measure(truth, found), counts).of()

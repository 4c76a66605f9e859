"""What metrics of a multilabel classifier are given: labels with gaps, a score for each, resamples of the images."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from cxr.config import UserError
from eval.detection.average_precision import Bools, Floats
from eval.stats.bootstrap import Counts, resample_counts


class DrawOptions(TypedDict, total=False):
    """How images are drawn for intervals.

    groups: (N,) patient of each image; None (the default) draws single images.
    num_resamples: default 1000. seed: of the draws, default 0.
    """

    groups: Sequence[str] | None
    num_resamples: int
    seed: int


def check_scores(labels: Floats, probabilities: Floats) -> None:
    """Assert labels of 1, 0 or NaN and equal shapes; UserError where a probability is not finite."""
    assert labels.shape == probabilities.shape, f"{labels.shape} labels, {probabilities.shape} scores"
    assert np.isin(labels[~np.isnan(labels)], (0, 1)).all(), "labels are 0, 1 or NaN"
    finite = np.isfinite(probabilities)
    if not finite.all():
        num = len(set(np.nonzero(~finite)[0].tolist()))
        raise UserError(
            f"classifier: {num} images have a probability that is not a number; training diverged, "
            "lower the learning rate or train in full precision"
        )


def known_rows(labels: Floats, scores: Floats) -> tuple[Bools, Floats]:
    """(N,) labels and scores of one class -> which are positive, and the scores, of images with a known label."""
    known = ~np.isnan(labels)
    return labels[known] == 1, scores[known].astype(np.float64)


def draw_images(num_images: int, options: Mapping[str, Any]) -> Counts:
    """(R, N) how often each image is drawn in each resample. options: `DrawOptions`, others are passed over."""
    groups = options.get("groups")
    return resample_counts(
        [str(i) for i in range(num_images)] if groups is None else groups,
        num_resamples=options.get("num_resamples", 1000),
        seed=options.get("seed", 0),
    )

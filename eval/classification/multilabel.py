"""What metrics of a multilabel classifier are given: labels with gaps, a score for each, resamples of the images."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from eval.stats.bootstrap import Counts, resample_counts


class DrawOptions(TypedDict, total=False):
    """How images are drawn for intervals.

    groups: (N,) patient of each image; None (the default) draws single images.
    num_resamples: default 1000. seed: of the draws, default 0.
    """

    groups: Sequence[str] | None
    num_resamples: int
    seed: int


def draw_images(num_images: int, options: Mapping[str, Any]) -> Counts:
    """(R, N) how often each image is drawn in each resample. options: `DrawOptions`, others are passed over."""
    groups = options.get("groups")
    return resample_counts(
        [str(i) for i in range(num_images)] if groups is None else groups,
        num_resamples=options.get("num_resamples", 1000),
        seed=options.get("seed", 0),
    )

"""Is one classifier really better than another? Differences of AUROC on the same images in the same draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np

from eval.average_precision import Bools, Floats, mean_over_classes
from eval.bootstrap import Counts, Difference, percentile_interval
from eval.multilabel import DrawOptions, check_scores, draw_images
from eval.weighted import weighted_auroc

Side = Floats | Sequence[Floats]
"""(N, K) probabilities of a classifier, or one such array for each seed it was trained with."""


class PairOptions(DrawOptions, total=False):
    """in_mean: (K,) bool, the classes of the mean, default all; those without both sorts never count."""

    in_mean: Bools | Sequence[bool] | None


@dataclass(frozen=True)
class PairedDifference:
    """First minus second: of the mean AUROC over classes, and of each class (None: no such figure)."""

    mean: Difference
    by_finding: tuple[Difference | None, ...]

    @property
    def is_real(self) -> bool:
        """True when the 95 % interval of the mean's difference leaves zero out."""
        return self.mean.is_clear


def auroc_difference(labels: Floats, a: Side, b: Side, **options: Unpack[PairOptions]) -> PairedDifference:
    """AUROC of `a` minus AUROC of `b` on the same images, by paired bootstrap over patients.

    labels: (N, K) 1, 0 or NaN (ignored). a, b: see `Side`. options: see `DrawOptions` and `PairOptions`.

    With several seeds the figure of a side is the mean of its seeds' AUROCs, in each resample anew. The interval
    tells of the choice of patients alone: with one seed a side, what another seed would have given is unknown.
    A class without both sorts in a resample is left out of that resample's mean.
    """
    sides = [_seeds(side) for side in (a, b)]
    for probabilities in (*sides[0], *sides[1]):
        check_scores(labels, probabilities)
    counts = draw_images(len(labels), options)
    in_mean = options.get("in_mean")
    chosen = np.ones(labels.shape[1], dtype=bool) if in_mean is None else np.asarray(in_mean, dtype=bool)
    point = _gap(labels, sides, np.ones((1, len(labels)), dtype=np.int32))
    draws = _gap(labels, sides, counts)
    mean = _difference(mean_over_classes(point[:, chosen]), mean_over_classes(draws[:, chosen]))
    by_finding = [_difference(point[:, k], draws[:, k]) for k in range(labels.shape[1])]
    return PairedDifference(mean, tuple(None if np.isnan(d.value) else d for d in by_finding))


def _seeds(side: Side) -> list[Floats]:
    seeds = [side] if isinstance(side, np.ndarray) and side.ndim == 2 else list(side)
    assert seeds, "a side without probabilities"
    return seeds


def _gap(labels: Floats, sides: Sequence[Sequence[Floats]], counts: Counts) -> Floats:
    """(R, K) first side minus second."""
    first, second = (np.mean([weighted_auroc(labels, p, counts) for p in side], axis=0) for side in sides)
    difference: Floats = first - second
    return difference


def _difference(point: Floats, draws: Floats) -> Difference:
    interval = percentile_interval(draws)
    return Difference(float(point[0]), interval.low, interval.high)

"""Calibration curves: how one class's scores become probabilities, and how reliable probabilities are.

All kinds act on the logit of the probability, clipped to [1e-12, 1 - 1e-12] (a logit of +-27.6).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from cxr.arrays import Bools, Floats, Ints
from cxr.config import UserError

CLIP = 1e-12
"""Probabilities are kept this far from 0 and 1 before their logit is taken."""


@dataclass(frozen=True)
class Curve:
    """How one class is calibrated: sigmoid(scale * logit + offset), or the line through knots (isotonic).

    reason: why the class keeps its probabilities as they are; "" when it is fitted.
    """

    scale: float = 1.0
    offset: float = 0.0
    knot_logits: tuple[float, ...] = ()
    knot_probabilities: tuple[float, ...] = ()
    reason: str = ""

    @property
    def fitted(self) -> bool:
        """False when the probabilities of the class pass through unchanged."""
        return not self.reason

    def apply(self, probabilities: Floats) -> Floats:
        """(N,) -> (N,), both in [0, 1]."""
        if not self.fitted:
            return probabilities
        logits = logits_of(probabilities)
        if self.knot_logits:
            return np.interp(logits, self.knot_logits, self.knot_probabilities)
        return np.asarray(expit(self.scale * logits + self.offset), dtype=np.float64)


def logits_of(probabilities: Floats) -> Floats:
    """(N,) probabilities -> (N,) their logits, clipped to +-27.6."""
    logits: Floats = logit(np.clip(probabilities.astype(np.float64), CLIP, 1 - CLIP))
    return logits


@dataclass(frozen=True)
class Reliability:
    """B bins of equal width over [0, 1], for a reliability diagram; each array is (B,).

    mean_predicted, observed_share: mean probability and share of positives, in [0, 1], NaN in an empty bin.
    count: images in the bin.
    """

    mean_predicted: Floats
    observed_share: Floats
    count: Ints

    @property
    def expected_error(self) -> float:
        """Mean over images of their bin's |observed_share - mean_predicted|; NaN without images."""
        gaps = np.abs(self.observed_share - self.mean_predicted)
        total = self.count.sum()
        return float(np.nansum(gaps * self.count) / total) if total else float("nan")


def reliability(labels: Floats, probabilities: Floats, num_bins: int = 15) -> Reliability:
    """The bins of one class.

    labels: (N,) 1, 0 or NaN (ignored). probabilities: (N,) in [0, 1]. A bin holds its upper edge and not its lower
    one; the first holds 0 as well (Guo et al. 2017, arXiv:1706.04599).
    """
    check_scores(labels, probabilities)
    positive, scores = known_rows(labels, probabilities)
    assert ((scores >= 0) & (scores <= 1)).all(), "probabilities are in [0, 1]"
    edges = np.linspace(0, 1, num_bins + 1)
    in_bin = np.searchsorted(edges[1:-1], scores, side="left")
    count = np.bincount(in_bin, minlength=num_bins)
    divisor = np.where(count > 0, count, np.nan)
    predicted = np.bincount(in_bin, weights=scores, minlength=num_bins) / divisor
    observed = np.bincount(in_bin, weights=positive, minlength=num_bins) / divisor
    return Reliability(predicted, observed, count)


def expected_calibration_error(labels: Floats, probabilities: Floats, *, num_bins: int = 15) -> Floats:
    """(K,) in [0, 1]: how far, on average over images, probability and observed share lie apart.

    labels: (N, K) 1, 0 or NaN (ignored). probabilities: (N, K) in [0, 1]. Each class is taken for itself, with the
    probability of its positive side (class-wise ECE of Kull et al. 2019, arXiv:1910.12656); NaN without images.
    """
    columns = range(labels.shape[1])
    errors = [reliability(labels[:, k], probabilities[:, k], num_bins).expected_error for k in columns]
    return np.array(errors, dtype=np.float64)


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

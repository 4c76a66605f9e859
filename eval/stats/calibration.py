"""Calibration curves, which turn the scores of one class into probabilities, and the reliability of probabilities.

All curves act on the logit of the probability, clipped to [1e-12, 1 - 1e-12] (a logit of +-27.6).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from cxr.arrays import Bools, Floats, Ints
from cxr.config import UserError

CLIP = 1e-12
"""Probabilities are kept this far from 0 and 1 before their logit is taken."""


@dataclass(frozen=True)
class Curve:
    """The calibration of one class: sigmoid(scale * logit + offset), or a line through knots (isotonic).

    reason: why the class keeps its probabilities unchanged; "" for a fitted curve.
    """

    scale: float = 1.0
    offset: float = 0.0
    knot_logits: tuple[float, ...] = ()
    knot_probabilities: tuple[float, ...] = ()
    reason: str = ""

    @property
    def fitted(self) -> bool:
        """False when the probabilities of the class stay unchanged."""
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
class Prior:
    """Independent Gaussian priors of a curve's scale and offset: their means, as a curve, and standard deviations."""

    mean: Curve
    scale_sd: float
    offset_sd: float


def fit_platt(
    logits: Floats, targets: Floats, *, prior: Prior | None = None, fit_offset: bool = True
) -> tuple[float, float]:
    """Scale and offset of the sigmoid with the least log loss, or the posterior mode if there is a prior.

    logits: (N,). targets: (N,) probabilities in [0, 1]. fit_offset: False keeps the offset at 0. A negative scale would
    reverse the order of the scores; it becomes 0, with the best offset.

    Source: Platt, Probabilistic outputs for support vector machines, 1999.
    """
    start = prior.mean if prior else Curve()
    mean = np.array([start.scale, start.offset])
    precision = np.array([prior.scale_sd, prior.offset_sd]) ** -2.0 if prior else np.zeros(2)
    inputs = np.stack([logits, np.ones(len(logits))], axis=1)
    num = max(1, len(logits))

    def minimise(free: list[int], fixed: Floats) -> Floats:
        def loss(values: Floats) -> tuple[float, Floats]:
            coefficients = np.array(fixed)
            coefficients[free] = values
            outputs, shift = inputs @ coefficients, coefficients - mean
            total = (np.logaddexp(0, outputs) - targets * outputs).sum() + (precision * shift**2).sum() / 2
            gradient = inputs.T @ (expit(outputs) - targets) + precision * shift
            return float(total) / num, gradient[free] / num

        def curvature(values: Floats) -> Floats:
            coefficients = np.array(fixed)
            coefficients[free] = values
            chance = expit(inputs @ coefficients)
            hessian = (inputs.T * (chance * (1 - chance))) @ inputs + np.diag(precision)
            return np.asarray(hessian[np.ix_(free, free)] / num)

        options = {"gtol": 1e-9}
        found = minimize(loss, fixed[free], jac=True, hess=curvature, method="trust-exact", options=options)
        best = np.array(fixed)
        best[free] = found.x
        return best

    scale, offset = minimise([0, 1] if fit_offset else [0], mean)
    if scale < 0:
        scale, offset = minimise([1], np.array([0.0, offset])) if fit_offset else (0.0, offset)
    return float(scale), float(offset)


@dataclass(frozen=True)
class Reliability:
    """B bins of equal width over [0, 1] for a reliability diagram; each array is (B,).

    mean_predicted, observed_share: mean probability and share of positives in [0, 1]; NaN in an empty bin.
    count: number of cases in the bin.
    """

    mean_predicted: Floats
    observed_share: Floats
    count: Ints

    @property
    def expected_error(self) -> float:
        """Mean over cases of |observed_share - mean_predicted| of their bin; NaN without a case."""
        gaps = np.abs(self.observed_share - self.mean_predicted)
        total = self.count.sum()
        return float(np.nansum(gaps * self.count) / total) if total else float("nan")


def reliability(labels: Floats, probabilities: Floats, num_bins: int = 15) -> Reliability:
    """The bins of one class. A bin includes its upper edge but not its lower one; the first bin includes 0.

    labels: (N,) 1, 0 or NaN (ignored). probabilities: (N,) in [0, 1].

    Source: Guo et al., On calibration of modern neural networks, ICML 2017.
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
    """(K,) class-wise expected calibration error in [0, 1]; NaN for a class without a known label.

    labels: (N, K) 1, 0 or NaN (ignored). probabilities: (N, K) in [0, 1].

    Source: Kull et al., Beyond temperature scaling, NeurIPS 2019 (arXiv:1910.12656).
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
    """Drop unknown labels: (N,) labels and scores of one class -> (M,) whether positive, (M,) scores."""
    known = ~np.isnan(labels)
    return labels[known] == 1, scores[known].astype(np.float64)

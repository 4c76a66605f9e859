"""Calibration: probabilities that mean what they say, fitted on validation; reliability and its error.

All kinds act on the logit of the probability, clipped to [1e-12, 1 - 1e-12] (a logit of +-27.6).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from cxr.config import UserError
from eval.classification.multilabel import check_scores, known_rows
from eval.detection.average_precision import Bools, Floats, Ints

CalibrationKind = Literal["none", "temperature", "platt", "isotonic"]

CLIP = 1e-12
"""Probabilities are kept this far from 0 and 1 before their logit is taken."""

MIN_OF_EACH = 5
"""A class with fewer positives, or fewer negatives, keeps its probabilities."""

FALLING = "its positives do not have the higher probabilities"
NO_SCALE = "no positive scale fits, platt would shift it as well"


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
        logits = _logits(probabilities)
        if self.knot_logits:
            return np.interp(logits, self.knot_logits, self.knot_probabilities)
        return np.asarray(expit(self.scale * logits + self.offset), dtype=np.float64)


@dataclass(frozen=True)
class Calibration:
    """A curve for each class, in the order of the classes."""

    kind: CalibrationKind
    curves: tuple[Curve, ...]

    def apply(self, probabilities: Floats) -> Floats:
        """(N, K) probabilities -> (N, K) calibrated ones, both in [0, 1]."""
        assert probabilities.shape[1:] == (len(self.curves),), f"{probabilities.shape} for {len(self.curves)}"
        columns = [curve.apply(probabilities[:, k]) for k, curve in enumerate(self.curves)]
        return np.stack(columns, axis=1) if columns else probabilities

    def notes(self, findings: Sequence[str]) -> list[str]:
        """A sentence for each class that was to be calibrated and is not."""
        if self.kind == "none":
            return []
        pairs = zip(findings, self.curves, strict=True)
        return [f"{name}: probabilities not calibrated, {c.reason}." for name, c in pairs if not c.fitted]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` gives exactly this calibration back."""
        return {"kind": self.kind, "curves": [asdict(curve) for curve in self.curves]}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> "Calibration":
        """From what `as_dict` gave; UserError for anything else."""
        try:
            kind = {name: name for name in get_args(CalibrationKind)}[entry["kind"]]
            return cls(kind, tuple(_curve(fields) for fields in entry["curves"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"calibration: damaged ({error!r}); run stage 1 again") from None


def fit_calibration(labels: Floats, probabilities: Floats, kind: CalibrationKind) -> Calibration:
    """A curve for each class.

    labels: (N, K) 1, 0 or NaN (ignored). probabilities: (N, K) in [0, 1].

    temperature: one scale a class (Guo et al. 2017, arXiv:1706.04599, for one output). platt: scale and offset
    (Platt 1999). Both minimise the log loss against Platt's targets, (P + 1) / (P + 2) for the P positives and
    1 / (Q + 2) for the Q negatives, so that the fit is finite for labels that are perfectly separated.
    isotonic: the rising step function of least squares (Zadrozny & Elkan 2002), joined by lines.

    temperature and platt keep the order of the images as far as float64 tells them apart, so that AUROC does not
    change; isotonic merges neighbours, so that it may. A class keeps its probabilities, with the reason on its
    curve, when it has fewer than `MIN_OF_EACH` positives or negatives, when its probabilities are all alike, and
    when no rising curve fits, because the order would be lost.
    """
    check_scores(labels, probabilities)
    columns = range(labels.shape[1])
    curves = [_fit(*known_rows(labels[:, k], probabilities[:, k]), kind) for k in columns]
    return Calibration(kind, tuple(curves))


def _fit(positive: Bools, probabilities: Floats, kind: CalibrationKind) -> Curve:
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if kind == "none":
        return Curve(reason="not asked for")
    if min(num_positive, num_negative) < MIN_OF_EACH:
        return Curve(
            reason=f"{num_positive} positive and {num_negative} negative labels, needs {MIN_OF_EACH} of each"
        )
    logits = _logits(probabilities)
    if np.ptp(logits) == 0:
        return Curve(reason="every image has the same probability")
    return _FITS[kind](positive, logits)


def _fit_temperature(positive: Bools, logits: Floats) -> Curve:
    (scale,) = _least_log_loss(positive, logits[:, None])
    return Curve(scale=float(scale)) if scale > 0 else Curve(reason=NO_SCALE)


def _fit_platt(positive: Bools, logits: Floats) -> Curve:
    scale, offset = _least_log_loss(positive, np.stack([logits, np.ones_like(logits)], axis=1))
    return Curve(scale=float(scale), offset=float(offset)) if scale > 0 else Curve(reason=FALLING)


def _least_log_loss(positive: Bools, inputs: Floats) -> Floats:
    """(N, P) inputs, the logits first -> (P,) coefficients of least log loss, which is convex."""
    num_positive = positive.sum()
    high, low = (num_positive + 1) / (num_positive + 2), 1 / (len(positive) - num_positive + 2)
    targets = np.where(positive, high, low)

    def loss(coefficients: Floats) -> tuple[float, Floats]:
        outputs = inputs @ coefficients
        total = np.logaddexp(0, outputs) - targets * outputs
        return float(total.mean()), inputs.T @ (expit(outputs) - targets) / len(targets)

    def curvature(coefficients: Floats) -> Floats:
        chance: Floats = expit(inputs @ coefficients)
        hessian: Floats = (inputs.T * (chance * (1 - chance))) @ inputs / len(targets)
        return hessian

    start = np.eye(1, inputs.shape[1])[0]
    found = minimize(loss, start, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-9})
    coefficients: Floats = found.x
    return coefficients


def _fit_isotonic(positive: Bools, logits: Floats) -> Curve:
    model = IsotonicRegression(y_min=0, y_max=1).fit(logits, positive)
    x, y = model.X_thresholds_.tolist(), model.y_thresholds_.tolist()
    return Curve(knot_logits=tuple(x), knot_probabilities=tuple(y)) if y[0] < y[-1] else Curve(reason=FALLING)


_FITS: dict[str, Callable[[Bools, Floats], Curve]] = {
    "temperature": _fit_temperature,
    "platt": _fit_platt,
    "isotonic": _fit_isotonic,
}


def _logits(probabilities: Floats) -> Floats:
    logits: Floats = logit(np.clip(probabilities.astype(np.float64), CLIP, 1 - CLIP))
    return logits


def _curve(fields: Mapping[str, Any]) -> Curve:
    """From JSON, which has no tuples."""
    return Curve(
        scale=float(fields["scale"]),
        offset=float(fields["offset"]),
        knot_logits=tuple(map(float, fields["knot_logits"])),
        knot_probabilities=tuple(map(float, fields["knot_probabilities"])),
        reason=str(fields["reason"]),
    )


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

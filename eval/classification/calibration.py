"""Calibration of a multilabel classifier, fitted on the validation split."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from cxr.arrays import Bools, Floats
from cxr.config import UserError
from eval.stats.calibration import Curve, check_scores, fit_platt, known_rows, logits_of

CalibrationKind = Literal["none", "temperature", "platt", "isotonic"]

MIN_OF_EACH = 5
"""A class with fewer positives, or fewer negatives, keeps its probabilities."""

FALLING = "its positives do not have the higher probabilities"
NO_SCALE = "no positive scale fits, platt would shift it as well"


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
        """A sentence for each class that could not be calibrated."""
        if self.kind == "none":
            return []
        pairs = zip(findings, self.curves, strict=True)
        return [f"{name}: probabilities not calibrated, {c.reason}." for name, c in pairs if not c.fitted]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` is the inverse."""
        return {"kind": self.kind, "curves": [asdict(curve) for curve in self.curves]}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> "Calibration":
        """The inverse of `as_dict`; UserError for damaged entries."""
        try:
            kind = {name: name for name in get_args(CalibrationKind)}[entry["kind"]]
            return cls(kind, tuple(_curve(fields) for fields in entry["curves"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"calibration: damaged ({error!r}); run stage 1 again") from None


def fit_calibration(labels: Floats, probabilities: Floats, kind: CalibrationKind) -> Calibration:
    """A curve for each class.

    labels: (N, K) 1, 0 or NaN (ignored). probabilities: (N, K) in [0, 1].

    - temperature: one scale per class (Guo et al. 2017, arXiv:1706.04599, for one output).
    - platt: scale and offset (Platt 1999). Like temperature it minimises the log loss against Platt's targets,
      (P + 1) / (P + 2) for the P positives and 1 / (Q + 2) for the Q negatives, which keeps the fit finite for
      perfectly separated labels.
    - isotonic: the rising step function of least squares (Zadrozny and Elkan 2002), its steps joined by lines.

    temperature and platt keep the order of the images, so AUROC does not change; isotonic may merge neighbours. A class
    keeps its probabilities, and its curve gives the reason, when it has fewer than `MIN_OF_EACH` positives or
    negatives, when all its probabilities are equal, or when no rising curve fits.
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
        return Curve(reason=f"{num_positive} positive and {num_negative} negative labels, needs {MIN_OF_EACH} of each")
    logits = logits_of(probabilities)
    if np.ptp(logits) == 0:
        return Curve(reason="every image has the same probability")
    return _FITS[kind](positive, logits)


def _fit_temperature(positive: Bools, logits: Floats) -> Curve:
    scale, _ = fit_platt(logits, _platt_targets(positive), fit_offset=False)
    return Curve(scale=scale) if scale > 0 else Curve(reason=NO_SCALE)


def _fit_platt(positive: Bools, logits: Floats) -> Curve:
    scale, offset = fit_platt(logits, _platt_targets(positive))
    return Curve(scale=scale, offset=offset) if scale > 0 else Curve(reason=FALLING)


def _platt_targets(positive: Bools) -> Floats:
    num_positive = positive.sum()
    high, low = (num_positive + 1) / (num_positive + 2), 1 / (len(positive) - num_positive + 2)
    targets: Floats = np.where(positive, high, low)
    return targets


def _fit_isotonic(positive: Bools, logits: Floats) -> Curve:
    from sklearn.isotonic import IsotonicRegression  # only for fitting; the service does not have scikit-learn

    model = IsotonicRegression(y_min=0, y_max=1).fit(logits, positive)
    x, y = model.X_thresholds_.tolist(), model.y_thresholds_.tolist()
    return Curve(knot_logits=tuple(x), knot_probabilities=tuple(y)) if y[0] < y[-1] else Curve(reason=FALLING)


_FITS = {"temperature": _fit_temperature, "platt": _fit_platt, "isotonic": _fit_isotonic}


def _curve(fields: Mapping[str, Any]) -> Curve:
    """A curve from JSON, which has no tuples."""
    return Curve(
        scale=float(fields["scale"]),
        offset=float(fields["offset"]),
        knot_logits=tuple(map(float, fields["knot_logits"])),
        knot_probabilities=tuple(map(float, fields["knot_probabilities"])),
        reason=str(fields["reason"]),
    )

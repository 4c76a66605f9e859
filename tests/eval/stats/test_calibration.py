"""eval.stats.calibration: exact values, scikit-learn and a grid as oracles, and what must never happen to an order."""

import json

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from cxr.config import UserError
from eval.classification.calibration import MIN_OF_EACH, Calibration, fit_calibration
from eval.stats.calibration import CLIP, Curve, expected_calibration_error, reliability

NAN = float("nan")
KINDS = ("temperature", "platt", "isotonic")


def column(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


def overconfident(seed: int, *, num: int = 900, scale: float = 2.0, offset: float = 1.0) -> tuple:
    """Labels drawn from logits z; the classifier says scale * z + offset. (N, 1) each."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 1.5, size=num)
    labels = (rng.uniform(size=num) < expit(logits)).astype(np.float64)
    return labels[:, None], expit(scale * logits + offset)[:, None]


# ---- fitting


def test_no_images_and_no_classes() -> None:
    empty = fit_calibration(np.zeros((0, 2)), np.zeros((0, 2)), "platt")
    assert [curve.fitted for curve in empty.curves] == [False, False]
    assert empty.apply(np.zeros((0, 2))).shape == (0, 2)
    assert fit_calibration(np.zeros((4, 0)), np.zeros((4, 0)), "platt").apply(np.zeros((3, 0))).shape == (3, 0)


def test_none_changes_nothing() -> None:
    labels, probabilities = overconfident(0)
    calibration = fit_calibration(labels, probabilities, "none")
    np.testing.assert_array_equal(calibration.apply(probabilities), probabilities)
    assert calibration.notes(["Edema"]) == []


@pytest.mark.parametrize("seed", range(4))
def test_platt_is_scikit_learns_sigmoid(seed: int) -> None:
    """CalibratedClassifierCV over a classifier whose decision function is the logit."""
    labels, probabilities = overconfident(seed, num=200)
    logits = logit(probabilities)
    frozen = LogisticRegression().fit(logits, labels[:, 0])
    frozen.coef_, frozen.intercept_ = np.array([[1.0]]), np.array([0.0])
    model = CalibratedClassifierCV(FrozenEstimator(frozen), method="sigmoid", ensemble=False)
    expected = model.fit(logits, labels[:, 0]).predict_proba(logits)[:, 1]
    found = fit_calibration(labels, probabilities, "platt").apply(probabilities)[:, 0]
    np.testing.assert_allclose(found, expected, atol=2e-4)


def softened_loss(labels: np.ndarray, outputs: np.ndarray) -> float:
    """Log loss against Platt's targets."""
    num_positive, num_negative = labels.sum(), (1 - labels).sum()
    target = np.where(labels == 1, (num_positive + 1) / (num_positive + 2), 1 / (num_negative + 2))
    return float(np.mean(np.logaddexp(0, outputs) - target * outputs))


@pytest.mark.parametrize("seed", range(3))
def test_no_scale_of_a_grid_is_better_than_the_temperature(seed: int) -> None:
    labels, probabilities = overconfident(seed, num=150, offset=0.0)
    (curve,) = fit_calibration(labels, probabilities, "temperature").curves
    logits = logit(probabilities)
    losses = [softened_loss(labels, scale * logits) for scale in np.linspace(0.01, 3, 1500)]
    assert softened_loss(labels, curve.scale * logits) <= min(losses)
    assert curve.scale == pytest.approx(0.01 + 2.99 / 1499 * int(np.argmin(losses)), abs=0.002)
    assert curve.offset == 0


def test_what_was_bent_is_straightened() -> None:
    labels, probabilities = overconfident(0, num=20_000, scale=2.0, offset=1.0)
    (platt,) = fit_calibration(labels, probabilities, "platt").curves
    assert (platt.scale, platt.offset) == pytest.approx((0.5, -0.5), abs=0.03)
    labels, probabilities = overconfident(0, num=20_000, scale=3.0, offset=0.0)
    (temperature,) = fit_calibration(labels, probabilities, "temperature").curves
    assert temperature.scale == pytest.approx(1 / 3, abs=0.02)


def test_isotonic_is_scikit_learns() -> None:
    labels, probabilities = overconfident(1, num=120)
    probabilities = probabilities.round(2)
    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    clipped = np.clip(probabilities, CLIP, 1 - CLIP)
    model.fit(logit(clipped[:, 0]), labels[:, 0])
    new = np.array([[0.0], [0.1234], [0.5], [0.987], [1.0]])
    found = fit_calibration(labels, probabilities, "isotonic").apply(new)
    np.testing.assert_allclose(found[:, 0], model.predict(logit(np.clip(new[:, 0], CLIP, 1 - CLIP))))


@pytest.mark.parametrize("kind", KINDS)
def test_calibration_error_and_loss_fall_on_new_images(kind: str) -> None:
    offset = 0.0 if kind == "temperature" else 1.0  # it cannot shift
    calibration = fit_calibration(*overconfident(0, num=3000, offset=offset), kind)
    labels, raw = overconfident(1, num=3000, offset=offset)
    calibrated = calibration.apply(raw)
    before, after = (expected_calibration_error(labels, p)[0] for p in (raw, calibrated))
    assert before > 0.05
    assert after < before / 2
    assert brier_score_loss(labels[:, 0], calibrated[:, 0]) < brier_score_loss(labels[:, 0], raw[:, 0])
    inside = np.clip(calibrated, 1e-3, 1 - 1e-3)
    assert log_loss(labels[:, 0], inside[:, 0]) < log_loss(labels[:, 0], raw[:, 0])


@pytest.mark.parametrize("kind", ["temperature", "platt"])
@pytest.mark.parametrize("seed", range(4))
def test_auroc_does_not_change(kind: str, seed: int) -> None:
    labels, probabilities = overconfident(seed, num=77)
    calibrated = fit_calibration(labels, probabilities, kind).apply(probabilities)
    assert (calibrated != probabilities).any()
    np.testing.assert_array_equal(np.argsort(calibrated[:, 0]), np.argsort(probabilities[:, 0]))
    assert roc_auc_score(labels[:, 0], calibrated[:, 0]) == roc_auc_score(labels[:, 0], probabilities[:, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_separated_labels_give_finite_probabilities(kind: str) -> None:
    labels, probabilities = (column([0] * 6 + [1] * 6), column([*np.linspace(0.1, 0.3, 6), *np.linspace(0.6, 1, 6)]))
    calibration = fit_calibration(labels, probabilities, kind)
    calibrated = calibration.apply(column([0.0, 0.2, 0.7, 1.0]))[:, 0]
    assert np.isfinite(calibrated).all()
    assert calibration.curves[0].fitted
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    assert (np.diff(calibrated) >= 0).all()
    if kind != "isotonic":
        assert ((calibrated > 0) & (calibrated < 1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_any_probability_stays_in_range_and_in_order(kind: str) -> None:
    calibration = fit_calibration(*overconfident(2), kind)
    everything = np.array([0.0, 1e-300, 1e-9, 0.3, 0.5, 1 - 1e-9, 1.0])[:, None]
    calibrated = calibration.apply(everything)[:, 0]
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    assert (np.diff(calibrated) >= 0).all()


# ---- classes that stay as they are


FEW = [1.0] * (MIN_OF_EACH - 1) + [0.0] * 8
UNFIT = [
    pytest.param([], [], "0 positive and 0 negative labels, needs 5 of each", id="no_images"),
    pytest.param(FEW, np.linspace(0.9, 0.1, 12), "4 positive and 8 negative labels, needs 5 of each", id="few"),
    pytest.param(
        [1 - y for y in FEW],
        np.linspace(0.1, 0.9, 12),
        "8 positive and 4 negative labels, needs 5 of each",
        id="few_negatives",
    ),
    pytest.param([1.0] * 5 + [0.0] * 5, [0.4] * 10, "every image has the same probability", id="constant"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("labels", "scores", "reason"), UNFIT)
def test_class_stays_as_it_is_and_says_why(kind: str, labels: list[float], scores: list[float], reason: str) -> None:
    calibration = fit_calibration(column(labels), column(scores), kind)
    given = column([0.0, 0.37, 1.0])
    np.testing.assert_array_equal(calibration.apply(given), given)
    assert not calibration.curves[0].fitted
    assert calibration.notes(["Edema"]) == [f"Edema: probabilities not calibrated, {reason}."]


@pytest.mark.parametrize("kind", KINDS)
def test_order_is_never_turned_round(kind: str) -> None:
    """Positives have the lower probabilities: a negative scale, or a constant, would fit best."""
    labels, probabilities = overconfident(0, num=300)
    calibration = fit_calibration(1 - labels, probabilities, kind)
    np.testing.assert_array_equal(calibration.apply(probabilities), probabilities)
    assert len(calibration.notes(["Edema"])) == 1


def test_temperature_cannot_shift_and_says_so() -> None:
    """All probabilities are above 1/2 and few images are positive; the order is right."""
    labels, probabilities = overconfident(0, scale=1.0, offset=9.0)
    calibration = fit_calibration(labels, probabilities, "temperature")
    assert calibration.notes(["Edema"]) == [
        "Edema: probabilities not calibrated, no positive scale fits, platt would shift it as well."
    ]
    assert fit_calibration(labels, probabilities, "platt").curves[0].fitted


def test_each_class_has_its_own_curve_and_unknown_labels_do_not_count() -> None:
    bent, few = overconfident(0, num=60), (column(FEW * 5), column([0.5] * 60))
    labels = np.concatenate([bent[0], few[0] * NAN, bent[0]], axis=1)
    probabilities = np.concatenate([bent[1], few[1], bent[1]], axis=1)
    labels[30:, 2] = NAN
    calibration = fit_calibration(labels, probabilities, "platt")
    alone = [fit_calibration(*bent, "platt"), fit_calibration(bent[0][:30], bent[1][:30], "platt")]
    assert calibration.curves[0] == alone[0].curves[0]
    assert calibration.curves[2] == alone[1].curves[0]
    assert [curve.fitted for curve in calibration.curves] == [True, False, True]
    np.testing.assert_array_equal(calibration.apply(probabilities)[:, 1], probabilities[:, 1])


# ---- keeping


@pytest.mark.parametrize("kind", ["none", *KINDS])
def test_json_round_trip_is_exact(kind: str) -> None:
    bent = overconfident(5, num=200)
    labels = np.concatenate([bent[0], bent[0] * NAN], axis=1)
    calibration = fit_calibration(labels, np.repeat(bent[1], 2, axis=1), kind)
    back = Calibration.from_dict(json.loads(json.dumps(calibration.as_dict(), allow_nan=False)))
    assert back == calibration
    new = np.random.default_rng(0).uniform(size=(50, 2))
    np.testing.assert_array_equal(back.apply(new), calibration.apply(new))


GOOD = Calibration("platt", (Curve(scale=2.0, offset=-1.0),)).as_dict()
DAMAGED = [
    pytest.param({}, id="empty"),
    pytest.param(GOOD | {"kind": "magic"}, id="unknown_kind"),
    pytest.param(GOOD | {"curves": [{"scale": 1.0}]}, id="missing_field"),
    pytest.param(GOOD | {"curves": [GOOD["curves"][0] | {"scale": "wide"}]}, id="no_number"),
    pytest.param(GOOD | {"curves": 3}, id="no_curves"),
]


@pytest.mark.parametrize("entry", DAMAGED)
def test_damaged_entry_is_refused_in_one_line(entry: dict) -> None:
    with pytest.raises(UserError, match="calibration: damaged") as refused:
        Calibration.from_dict(entry)
    assert "\n" not in str(refused.value)


def test_probability_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(UserError, match="not a number"):
        fit_calibration(column([0, 1]), column([0.1, NAN]), "platt")


# ---- reliability


def test_bins_exact_value() -> None:
    found = reliability(np.array([0, 1, 0, 1, 1, NAN]), np.array([0.0, 0.25, 0.1, 0.26, 1.0, 0.9]), num_bins=4)
    np.testing.assert_array_equal(found.count, [3, 1, 0, 1])
    np.testing.assert_allclose(found.mean_predicted, [0.35 / 3, 0.26, NAN, 1.0])
    np.testing.assert_allclose(found.observed_share, [1 / 3, 1.0, NAN, 1.0])
    # the sum over bins of |positives - sum of probabilities|, an image
    assert found.expected_error == pytest.approx((0.65 + 0.74 + 0) / 5)


def test_bins_without_images() -> None:
    found = reliability(np.zeros(0), np.zeros(0), num_bins=3)
    np.testing.assert_array_equal(found.count, [0, 0, 0])
    assert np.isnan(found.expected_error)
    assert np.isnan(expected_calibration_error(np.full((2, 1), NAN), np.zeros((2, 1)))).all()


@pytest.mark.parametrize("num_bins", [1, 5, 15])
def test_bins_agree_with_scikit_learn(num_bins: int) -> None:
    labels, probabilities = overconfident(4, num=200)
    labels, probabilities = labels[:, 0], probabilities[:, 0].round(1)
    found = reliability(labels, probabilities, num_bins)
    share, predicted = calibration_curve(labels, probabilities, n_bins=num_bins, strategy="uniform")
    np.testing.assert_allclose(found.observed_share[found.count > 0], share)
    np.testing.assert_allclose(found.mean_predicted[found.count > 0], predicted)
    gap = np.abs(share - predicted) @ found.count[found.count > 0] / 200
    assert expected_calibration_error(labels[:, None], probabilities[:, None], num_bins=num_bins) == pytest.approx(gap)


def test_number_of_bins_is_used() -> None:
    """One positive at .6 and one negative at .4 are right on average, in one bin, and wrong apart."""
    labels, probabilities = column([1, 0]), column([0.6, 0.4])
    assert expected_calibration_error(labels, probabilities, num_bins=1) == pytest.approx(0.0)
    assert expected_calibration_error(labels, probabilities, num_bins=2) == pytest.approx(0.4)

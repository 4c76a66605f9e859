"""Exact values, then brute force over all thresholds and scikit-learn's ROC curve."""

import numpy as np
import pytest
from sklearn import metrics as sk

from cxr.config import UserError
from eval.classification.operating_points import choose_thresholds, specificity_at_sensitivity, specificity_interval
from eval.stats.bootstrap import percentile_interval, resample_counts

NAN = float("nan")
KINDS = ("f1", "youden", "sensitivity")


def column(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


THRESHOLDS = [
    pytest.param([], [], NAN, id="no_images"),
    pytest.param([0, 0], [0.2, 0.7], NAN, id="no_positives"),
    pytest.param([0, 1], [0.2, 0.6], 0.4, id="midpoint"),
    pytest.param([1, 1], [0.2, 0.6], 0.2, id="only_positives_call_everything"),
    pytest.param([0, 1, 1], [0.5, 0.5, 0.5], 0.5, id="constant_scores"),
    pytest.param([0, 0, 1, NAN], [0.1, 0.3, 0.9, 0.6], 0.6, id="nan_label_is_ignored"),
    # calling 1 or all 4 of 4 images: F1 2/3 each; the lower threshold wins
    pytest.param([1, 0, 0, 1], [0.1, 0.2, 0.3, 0.9], 0.1, id="tie_takes_the_lowest"),
    pytest.param([0, 1], [0.5, np.nextafter(0.5, 1)], np.nextafter(0.5, 1), id="no_float_between"),
]


@pytest.mark.parametrize(("labels", "scores", "expected"), THRESHOLDS)
def test_highest_f1_exact_value(labels: list[float], scores: list[float], expected: float) -> None:
    chosen = choose_thresholds(column(labels), column(scores))
    np.testing.assert_allclose(chosen, [expected], rtol=1e-15)


OTHERS = [
    pytest.param([], [], NAN, NAN, id="no_images"),
    pytest.param([0, 0], [0.2, 0.7], NAN, NAN, id="no_positives"),
    pytest.param([1, 1], [0.2, 0.6], NAN, 0.2, id="no_negatives"),
    pytest.param([0, 1], [0.2, 0.6], 0.4, 0.4, id="midpoint"),
    pytest.param([0, 1, 1], [0.5, 0.5, 0.5], 0.5, 0.5, id="constant_scores"),
    # of ten images: Youden gives up the lowest of four positives, a sensitivity of .75 too, .8 does not
    pytest.param(
        [1, 0, 0, 0, 0, 0, 0, 1, 1, 1],
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
        0.65,
        0.0,
        id="youden_gives_up_a_positive",
    ),
    # J is 1/2 at .35 (both positives, half the negatives) and at .75 (half the positives, no negative)
    pytest.param([0, 1, 0, 1], [0.3, 0.4, 0.5, 1.0], 0.35, 0.35, id="tie_takes_the_lowest"),
]


@pytest.mark.parametrize(("labels", "scores", "youden", "sensitive"), OTHERS)
def test_other_operating_points_exact_value(
    labels: list[float], scores: list[float], youden: float, sensitive: float
) -> None:
    given = (column(labels), column(scores))
    np.testing.assert_allclose(choose_thresholds(*given, kind="youden"), [youden])
    np.testing.assert_allclose(choose_thresholds(*given, kind="sensitivity", sensitivity=0.8), [sensitive])


@pytest.mark.parametrize("labels", [[0, 0], [0, 1], [NAN, NAN]])
def test_a_fixed_threshold_does_not_depend_on_the_labels(labels: list[float]) -> None:
    np.testing.assert_array_equal(choose_thresholds(column(labels), column([0.2, 0.9]), kind="fixed"), [0.5])
    np.testing.assert_array_equal(
        choose_thresholds(column(labels), column([0.2, 0.9]), kind="fixed", fixed_at=0.3), [0.3]
    )


def test_wished_sensitivity_moves_the_threshold() -> None:
    labels, scores = column([1] * 20 + [0]), column([*np.linspace(0.05, 1, 20), 0.0])

    def chosen(sensitivity: float) -> float:
        return float(choose_thresholds(labels, scores, kind="sensitivity", sensitivity=sensitivity)[0])

    # 19 of 20 is .95 exactly, so the lowest positive may go
    assert [chosen(s) for s in (1.0, 0.951, 0.95, 0.5)] == pytest.approx([0.025, 0.025, 0.075, 0.525])


def test_classes_are_chosen_for_one_by_one() -> None:
    labels = np.array([[0, 1, 0], [1, 0, 0], [1, NAN, 0]], dtype=np.float64)
    scores = np.array([[0.1, 0.9, 0.5], [0.2, 0.1, 0.5], [0.3, 0.2, 0.5]])
    np.testing.assert_allclose(choose_thresholds(labels, scores), [0.15, 0.5, NAN])


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """41 images with tied scores."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=41).astype(float)
    return labels, (0.3 * labels + 0.7 * rng.uniform(size=41)).round(1)


def rates(labels: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[float, float, float]:
    """F1, sensitivity and specificity by scikit-learn."""
    called = scores >= threshold
    return (
        sk.f1_score(labels, called, zero_division=0),
        sk.recall_score(labels, called),
        sk.recall_score(1 - labels, ~called),
    )


@pytest.mark.parametrize("seed", range(8))
def test_no_threshold_is_better(seed: int) -> None:
    labels, scores = random_case(seed)
    everywhere = [rates(labels, scores, t) for t in np.linspace(0, 1.05, 22)]
    chosen = {
        kind: choose_thresholds(labels[:, None], scores[:, None], kind=kind, sensitivity=0.8)[0] for kind in KINDS
    }
    f1, _, _ = rates(labels, scores, chosen["f1"])
    assert f1 == pytest.approx(max(f for f, _, _ in everywhere))
    _, sensitivity, specificity = rates(labels, scores, chosen["youden"])
    assert sensitivity + specificity == pytest.approx(max(a + b for _, a, b in everywhere))
    _, sensitivity, specificity = rates(labels, scores, chosen["sensitivity"])
    assert sensitivity >= 0.8
    assert specificity == pytest.approx(max(b for _, a, b in everywhere if a >= 0.8))


@pytest.mark.parametrize("seed", range(5))
def test_youden_agrees_with_scikit_learns_roc_curve(seed: int) -> None:
    labels, scores = random_case(seed)
    false, true, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    chosen = choose_thresholds(labels[:, None], scores[:, None], kind="youden")[0]
    _, sensitivity, specificity = rates(labels, scores, chosen)
    assert sensitivity + specificity - 1 == pytest.approx((true - false).max())


SPECIFICITIES = [
    pytest.param([], [], 0.9, NAN, id="no_images"),
    pytest.param([1, 1], [0.2, 0.4], 0.9, NAN, id="no_negatives"),
    pytest.param([0, NAN], [0.2, 0.4], 0.9, NAN, id="no_positives"),
    pytest.param([0, 1], [0.2, 0.4], 1.0, 1.0, id="separated"),
    pytest.param([0, 1], [0.4, 0.2], 0.1, 0.0, id="wrong_way_round"),
    pytest.param([0, 1], [0.3, 0.3], 1.0, 0.0, id="constant"),
    pytest.param([1, 0, 1, 0, 0], [0.9, 0.8, 0.7, 0.7, 0.1], 0.5, 1.0, id="first_positive"),
    pytest.param([1, 0, 1, 0, 0], [0.9, 0.8, 0.7, 0.7, 0.1], 0.51, 1 / 3, id="tied_with_a_negative"),
]


@pytest.mark.parametrize(("labels", "scores", "sensitivity", "expected"), SPECIFICITIES)
def test_specificity_at_sensitivity_exact_value(
    labels: list[float], scores: list[float], sensitivity: float, expected: float
) -> None:
    found = specificity_at_sensitivity(column(labels)[:, 0], column(scores)[:, 0], sensitivity)
    np.testing.assert_allclose(found, expected)


def best_specificity(labels: np.ndarray, scores: np.ndarray, sensitivity: float) -> float:
    false, true, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    return float(1 - false[true >= sensitivity].min())


@pytest.mark.parametrize("seed", range(5))
def test_specificity_and_its_interval_agree_with_scikit_learn(seed: int) -> None:
    labels, scores = random_case(seed)
    patients = [f"p{i // 3}" for i in range(41)]
    assert specificity_at_sensitivity(labels, scores, 0.9) == pytest.approx(best_specificity(labels, scores, 0.9))
    counts = resample_counts(patients, num_resamples=40, seed=3)
    copies = [np.repeat(np.arange(41), row) for row in counts]
    expected = percentile_interval(np.array([best_specificity(labels[c], scores[c], 0.9) for c in copies]))
    found = specificity_interval(labels, scores, 0.9, groups=patients, num_resamples=40, seed=3)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_probability_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(UserError, match="1 images have a probability that is not a number"):
        choose_thresholds(column([0, 1]), column([0.1, NAN]))

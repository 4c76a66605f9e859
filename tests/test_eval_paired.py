"""eval.paired: differences of AUROC, against a bootstrap that copies the images and asks scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxr.config import UserError
from eval.bootstrap import Difference, percentile_interval, resample_counts
from eval.paired import PairedDifference, auroc_difference

NAN = float("nan")


def random_case(seed: int, *, num: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of 2 findings, some unknown, and two classifiers of which the first is better."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=(num, 2)).astype(float)
    better, worse = ((s * labels + rng.uniform(size=(num, 2))).round(1) for s in (0.6, 0.2))
    labels[rng.uniform(size=(num, 2)) < 0.15] = NAN
    return labels, better, worse


def copied_auroc(labels: np.ndarray, scores: np.ndarray, row: np.ndarray) -> float:
    """AUROC of a resample made by copying images; NaN without both sorts."""
    copies = np.repeat(np.arange(len(labels)), row)
    copies = copies[~np.isnan(labels[copies])]
    if len(set(labels[copies])) < 2:
        return NAN
    return float(roc_auc_score(labels[copies], scores[copies]))


def brute_force(labels: np.ndarray, sides: list[list[np.ndarray]], counts: np.ndarray) -> np.ndarray:
    """(R, K) first side minus second."""
    gaps = np.full((len(counts), labels.shape[1]), NAN)
    for r, row in enumerate(counts):
        for k in range(labels.shape[1]):
            first, second = (
                np.mean([copied_auroc(labels[:, k], p[:, k], row) for p in side]) for side in sides
            )
            gaps[r, k] = first - second
    return gaps


def as_tuple(difference: Difference) -> tuple[float, float, float]:
    return difference.value, difference.low, difference.high


@pytest.mark.parametrize("seed", range(3))
def test_equals_copying_the_images(seed: int) -> None:
    labels, a, b = random_case(seed, num=12)
    patients = [f"p{i // 2}" for i in range(12)]
    found = auroc_difference(labels, a, b, groups=patients, num_resamples=60, seed=seed)
    counts = resample_counts(patients, num_resamples=60, seed=seed)
    point = brute_force(labels, [[a], [b]], np.ones((1, 12), dtype=int))[0]
    draws = brute_force(labels, [[a], [b]], counts)
    means = np.array([np.mean(row[~np.isnan(row)]) if (~np.isnan(row)).any() else NAN for row in draws])
    interval = percentile_interval(means)
    assert as_tuple(found.mean) == pytest.approx((point.mean(), interval.low, interval.high), abs=1e-12)
    for k, difference in enumerate(found.by_finding):
        interval = percentile_interval(draws[:, k])
        assert as_tuple(difference) == pytest.approx((point[k], interval.low, interval.high), abs=1e-12)


def test_several_seeds_a_side_are_averaged_in_each_resample() -> None:
    labels, a, b = random_case(3, num=12)
    labels = np.where(np.isnan(labels), 0.0, labels)
    more = np.random.default_rng(0).uniform(size=a.shape).round(1)
    sides = [[a, more], [b, more[::-1], a]]
    found = auroc_difference(labels, *sides, num_resamples=30, seed=1)
    counts = resample_counts([str(i) for i in range(12)], num_resamples=30, seed=1)
    point = brute_force(labels, sides, np.ones((1, 12), dtype=int))[0]
    interval = percentile_interval(brute_force(labels, sides, counts).mean(axis=1))
    assert as_tuple(found.mean) == pytest.approx((point.mean(), interval.low, interval.high))


def test_classifier_against_itself_is_nothing() -> None:
    labels, a, _ = random_case(0)
    found = auroc_difference(labels, a, [a, a], num_resamples=50)
    assert as_tuple(found.mean) == (0.0, 0.0, 0.0)
    assert not found.is_real


def test_better_classifier_is_really_better_and_sides_turn_the_sign() -> None:
    labels, a, b = random_case(1, num=300)
    found, turned = (auroc_difference(labels, *sides, num_resamples=200) for sides in ((a, b), (b, a)))
    assert found.is_real
    assert turned.is_real
    assert found.mean.low > 0
    assert as_tuple(turned.mean) == pytest.approx((-found.mean.value, -found.mean.high, -found.mean.low))


def test_pairing_narrows_the_interval() -> None:
    """The second is the first with a little noise: alone each is uncertain, their difference is not."""
    labels, a, _ = random_case(2, num=80)
    noisy = a + 0.02 * np.random.default_rng(0).normal(size=a.shape)
    paired = auroc_difference(labels, a, noisy, num_resamples=200).mean
    alone = auroc_difference(labels, a, np.zeros_like(a), num_resamples=200).mean  # the other is .5 always
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


def test_classes_of_the_mean_are_chosen() -> None:
    labels, a, b = random_case(4)
    found = auroc_difference(labels, a, b, in_mean=[False, True], num_resamples=40)
    assert found.mean == found.by_finding[1]
    assert found.by_finding[0] != found.by_finding[1]


def test_class_of_one_sort_has_no_difference_and_is_left_out() -> None:
    labels, a, b = random_case(4)
    labels[:, 0] = 0
    found = auroc_difference(labels, a, b, num_resamples=40)
    assert found.by_finding[0] is None
    assert found.mean == found.by_finding[1]


def test_no_images() -> None:
    empty = np.zeros((0, 2))
    found = auroc_difference(empty, empty, empty, num_resamples=5)
    assert found.by_finding == (None, None)
    assert np.isnan(found.mean.value)
    assert not found.is_real


def test_seed_and_patients_matter() -> None:
    labels, a, b = random_case(5)
    patients = [f"p{i // 5}" for i in range(30)]
    intervals = {
        as_tuple(auroc_difference(labels, a, b, num_resamples=50, seed=s, groups=g).mean)
        for s, g in ((0, None), (0, None), (1, None), (0, patients))
    }
    assert len(intervals) == 3


def test_real_means_that_the_interval_leaves_zero_out() -> None:
    clear, open_ = Difference(0.1, 0.01, 0.2), Difference(0.1, -0.01, 0.2)
    assert PairedDifference(clear, ()).is_real
    assert not PairedDifference(open_, ()).is_real


def test_probability_that_is_not_a_number_is_refused() -> None:
    labels, a, b = random_case(0)
    b[3, 1] = NAN
    with pytest.raises(UserError, match="1 images have a probability that is not a number"):
        auroc_difference(labels, a, [a, b])

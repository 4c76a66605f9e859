"""Two samples: exact AUROC, intervals that hold it, and p-values that are right where nothing differs."""

import numpy as np
import pytest

from eval.stats.two_sample import auroc_interval, compare_numbers, compare_vectors


def test_the_auroc_counts_pairs_and_half_of_the_ties() -> None:
    auroc = auroc_interval(np.array([1.0, 2, 3]), np.array([2.0, 4]))
    assert auroc.value == pytest.approx(4.5 / 6)
    assert auroc.low < auroc.value < auroc.high


def test_samples_that_do_not_overlap_have_an_interval_too() -> None:
    above = auroc_interval(np.arange(10.0), np.arange(10.0) + 20)
    below = auroc_interval(np.arange(10.0) + 20, np.arange(10.0))
    assert (above.value, above.high) == (1, 1)
    assert above.low == pytest.approx(0.8002, abs=1e-4)
    assert (below.value, below.low, below.high) == (0, 0, pytest.approx(1 - above.low))


def test_the_interval_holds_the_true_value_in_95_of_100_samples() -> None:
    rng = np.random.default_rng(0)
    drawn = [auroc_interval(rng.normal(0, 1, 40), rng.normal(1, 1, 60)) for _ in range(400)]
    held = np.mean([one.low <= 0.76025 <= one.high for one in drawn])  # Phi(1 / sqrt 2)
    assert 0.92 <= held <= 0.98


def test_equal_samples_do_not_differ() -> None:
    values = np.linspace(0, 1, 30)
    same = compare_numbers(values, values)
    assert (same.p, same.auroc.value) == (1, 0.5)
    constant = compare_numbers(np.ones(20), np.ones(25))
    assert (constant.p, constant.auroc.value) == (1, 0.5)


def test_a_change_of_spread_that_no_mean_shows_is_found_in_vectors() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(0, 1, (120, 3)), rng.normal(0, 3, (120, 3))
    found = compare_vectors(first, second, seed=0)
    assert found.p < 1e-6
    assert found.auroc.low > 0.7


def test_the_false_alarms_of_the_classifier_are_as_many_as_its_level() -> None:
    rng = np.random.default_rng(2)
    p = [compare_vectors(rng.normal(0, 1, (60, 5)), rng.normal(0, 1, (50, 5)), seed=seed).p for seed in range(60)]
    assert np.mean(np.array(p) < 0.05) <= 0.12

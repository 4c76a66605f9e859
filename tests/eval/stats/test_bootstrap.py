"""eval.stats.bootstrap: resamples of groups and percentile intervals."""

import numpy as np
import pytest

from cxr.arrays import mean_over_classes
from eval.stats.bootstrap import percentile_interval, resample_counts


def test_mean_over_classes_leaves_nan_out() -> None:
    values = np.array([[0.2, np.nan, 0.6], [np.nan, np.nan, np.nan]])
    np.testing.assert_allclose(mean_over_classes(values), [0.4, np.nan])
    assert np.isnan(mean_over_classes(np.zeros((0,))))


def test_no_items_to_draw() -> None:
    assert resample_counts([], num_resamples=3).shape == (3, 0)


def test_whole_groups_are_drawn() -> None:
    counts = resample_counts(["p1", "p2", "p1", "p3"], num_resamples=200, seed=4)
    np.testing.assert_array_equal(counts[:, 0], counts[:, 2])
    np.testing.assert_array_equal(counts[:, [0, 1, 3]].sum(axis=1), np.full(200, 3))
    assert counts.mean() == pytest.approx(1.0, abs=0.1)


def test_draws_depend_on_the_seed_alone() -> None:
    first = resample_counts(["a", "b", "c"], num_resamples=20, seed=1)
    np.testing.assert_array_equal(first, resample_counts(["x", "y", "z"], num_resamples=20, seed=1))
    assert (first != resample_counts(["a", "b", "c"], num_resamples=20, seed=2)).any()


def test_percentile_interval_exact_value() -> None:
    interval = percentile_interval(np.array([*np.arange(101.0), np.nan]))
    assert (interval.low, interval.high) == pytest.approx((2.5, 97.5))
    assert np.isnan(percentile_interval(np.array([np.nan])).low)


def test_a_single_group_has_no_interval() -> None:
    """All its draws would be alike, and an interval of no width would look like certainty."""
    counts = resample_counts(["p1", "p1", "p1"], num_resamples=50)
    assert counts.shape == (0, 3)
    assert np.isnan(percentile_interval(counts[:, 0].astype(float)).high)

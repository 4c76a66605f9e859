"""eval.stats.measures: values, intervals and paired differences of any measure."""

import numpy as np
import pytest

from eval.stats.measures import bootstrap, cases_of_mean, difference, share_measure

HITS = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
CASES = np.array([[1.0, 0.0], [1.0, 0.0], [2.0, 0.0]])


def test_share_of_no_images_or_no_classes() -> None:
    none = share_measure("share", ["Edema"], np.zeros((0, 1)), np.zeros((0, 1)))
    assert np.isnan(none.values(0)).all()
    assert share_measure("share", [], np.zeros((3, 0)), np.zeros((3, 0))).values(3).shape == (0,)


def test_share_is_hits_over_cases_weighted() -> None:
    measure = share_measure("share", ["Edema", "Mass"], HITS, CASES)
    np.testing.assert_allclose(measure.values(3), [0.5, np.nan])
    weighted = measure.resampled(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))
    np.testing.assert_allclose(weighted[:, 0], [0.75, 0.0, np.nan])


def test_drawn_has_value_mean_and_intervals() -> None:
    measure = share_measure("share", ["Edema", "Mass"], HITS, CASES)
    counts = np.array([[3, 0, 0]] * 39 + [[0, 3, 0]])
    drawn = bootstrap(measure, counts)
    assert (drawn.name, drawn.mean) == ("share", 0.5)
    assert drawn.samples.shape == (40, 2)
    assert (drawn.mean_interval.low, drawn.mean_interval.high) == pytest.approx((0.975, 1.0))
    assert drawn.interval("Edema") == drawn.mean_interval
    assert np.isnan(drawn.interval("Mass").low)


def test_the_mean_counts_the_cases_of_classes_with_a_value() -> None:
    assert cases_of_mean(np.zeros(2), np.full(2, np.nan)) == 0
    assert cases_of_mean(np.array([5.0, 0.0]), np.array([0.3, np.nan])) == 5
    assert cases_of_mean(np.array([2.0, 6.0, 3.0]), np.array([0.3, 0.1, 0.0])) == pytest.approx(9)


def test_a_share_of_independent_cases_knows_their_number() -> None:
    cases = (CASES > 0).astype(np.float64)
    measure = share_measure("share", ["Edema", "Mass"], HITS, cases, independent=True)
    drawn = bootstrap(measure, np.array([[1, 1, 1]] * 9))
    np.testing.assert_array_equal(drawn.num_cases, [3, 0])
    assert drawn.of("Edema").num_cases == drawn.of().num_cases == 3
    assert drawn.mean == pytest.approx(2 / 3)
    assert drawn.mean_interval.low < 0.3  # although the resamples do not vary
    assert (
        bootstrap(share_measure("share", ["Edema", "Mass"], HITS, CASES), np.ones((9, 3), dtype=int)).num_cases is None
    )


def test_some_of_the_images() -> None:
    cases = (CASES > 0).astype(np.float64)
    whole = share_measure("share", ["Edema", "Mass"], HITS, cases, independent=True)
    part = whole.within(np.array([True, True, False]))
    drawn = bootstrap(part, np.array([[1, 2, 4], [0, 0, 3]]))
    np.testing.assert_allclose(drawn.values, [0.5, np.nan])
    np.testing.assert_allclose(drawn.samples[:, 0], [1 / 3, np.nan])
    np.testing.assert_array_equal(drawn.num_cases, [2, 0])


def test_no_resamples_give_no_interval() -> None:
    drawn = bootstrap(share_measure("share", ["Edema", "Mass"], HITS, CASES), np.zeros((0, 3), dtype=np.int32))
    assert drawn.mean == 0.5
    assert np.isnan(drawn.mean_interval.high)


def test_difference_is_taken_within_each_draw() -> None:
    """The second misses what the first finds in image 0: never the better one, though both swing widely."""
    counts = np.array([[2, 1, 0], [1, 0, 2], [0, 3, 0], [1, 1, 1]])
    first = bootstrap(share_measure("share", ["Edema", "Mass"], HITS, CASES), counts)
    fewer = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    second = bootstrap(share_measure("share", ["Edema", "Mass"], fewer, CASES), counts)
    gap = difference(first, second)
    assert gap.value == pytest.approx(0.25)
    gaps = [2 / 3, 1 / 5, 0, 1 / 4]
    assert (gap.low, gap.high) == pytest.approx(tuple(np.percentile(gaps, [2.5, 97.5])))
    assert difference(first, first).value == 0.0

"""eval.stats.measures: values, intervals and paired differences of any measure."""

import numpy as np
import pytest

from eval.stats.measures import bootstrap, difference, share_measure

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

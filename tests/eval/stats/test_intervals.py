"""eval.stats.intervals: corrected intervals of shares, their differences, ratios and p-values, by hand."""

import math

import numpy as np
import pytest

from cxr.arrays import Floats
from eval.stats.bootstrap import Estimate
from eval.stats.intervals import Resampled, difference_of, p_of_difference, p_value, ratio_of

NAN = float("nan")
Z = 1.959963984540054
QUARTER = math.pi / 4
"""The share .5 on the arcsine scale, where a share is (1 + sin(2 (angle - pi / 4))) / 2."""


MANY = 1e12
"""So many cases that they neither shift the scale nor set a least deviation."""


def shares(*shifts: float) -> Floats:
    """Shares whose angles are pi / 4 plus each shift."""
    return np.sin(QUARTER + np.array(shifts)) ** 2


def share(shift: float) -> float:
    return (1 + math.sin(2 * shift)) / 2


def ends(one: Estimate) -> tuple[float, float, float]:
    return one.value, one.low, one.high


def test_nothing_resampled_has_no_interval() -> None:
    for num_cases in (None, 7.0):
        one = Resampled(0.5, np.zeros(0), num_cases)
        assert math.isnan(one.interval.low)
        assert math.isnan(p_of_difference(one, one))
    none = Resampled(NAN, np.full(3, NAN), 0.0)
    assert math.isnan(none.interval.high)
    assert math.isnan(difference_of(none, Resampled(0.5, shares(-0.1, 0.0, 0.1), 9.0)).low)


def test_without_cases_the_interval_is_that_of_percentiles() -> None:
    assert ends(Resampled(0.5, np.arange(101.0)).estimate) == pytest.approx((0.5, 2.5, 97.5))


def test_interval_of_a_share_is_normal_on_the_arcsine_scale() -> None:
    one = Resampled(0.5, np.append(shares(-0.1, 0.1), NAN), MANY)
    assert ends(one.estimate) == pytest.approx((0.5, share(-0.1 * Z), share(0.1 * Z)))


def test_bias_of_the_samples_is_subtracted_from_the_estimate() -> None:
    one = Resampled(0.5, shares(-0.06, 0.14), MANY)  # their mean is .04 above the estimate
    assert ends(one.estimate) == pytest.approx((0.5, share(-0.04 - 0.1 * Z), share(-0.04 + 0.1 * Z)))
    assert one.limits(0.1, bias=0.04) == pytest.approx((0.5, share(-0.05), 0.5))  # extended to the value


def test_few_cases_set_a_least_deviation() -> None:
    """All of 4 boxes found in every sample: the interval is that of 4 cases, not a single point."""
    one = Resampled(1.0, np.ones(50), 4.0)
    low = math.sin(math.asin(math.sqrt(4.375 / 4.75)) - Z / math.sqrt(18)) ** 2
    assert ends(one.estimate) == pytest.approx((1.0, low, 1.0))
    assert low == pytest.approx(0.539, abs=5e-4)
    half = Resampled(0.5, np.full(50, 0.5), 4.0).interval
    assert (half.low, half.high) == pytest.approx((share(-Z / math.sqrt(18)), share(Z / math.sqrt(18))))


def test_difference_by_hand() -> None:
    """Opposite samples: the deviations of both sides add up; equal ones: they cancel."""
    first, value = Resampled(0.5, shares(-0.1, 0.1), MANY), share(0.2)
    down, up = 0.5 - share(-0.1 * Z), share(0.2 + 0.1 * Z) - value
    opposite = difference_of(first, Resampled(value, shares(0.3, 0.1), MANY))
    assert (opposite.value, opposite.low) == pytest.approx((0.5 - value, 0.5 - value - down - up))
    alike = difference_of(first, Resampled(value, shares(0.1, 0.3), MANY))
    assert alike.low == pytest.approx(0.5 - value - abs(down - up))


def test_difference_without_a_common_part_is_the_hypotenuse() -> None:
    """Samples that do not vary have no correlation with others."""
    first, second = Resampled(0.5, np.full(2, 0.5), 4.0), Resampled(0.5, shares(-0.1, 0.1), MANY)
    own, other = share(Z / math.sqrt(18)) - 0.5, share(0.1 * Z) - 0.5
    side = math.hypot(own, other)
    assert ends(difference_of(first, second)) == pytest.approx((0.0, -side, side))


def test_difference_of_a_figure_with_itself_is_nothing() -> None:
    one = Resampled(0.5, shares(-0.1, 0.03, 0.1), 100.0)
    assert ends(difference_of(one, one)) == (0.0, 0.0, 0.0)
    assert p_of_difference(one, one) == 1


def test_ratio_by_hand() -> None:
    """Equal values with opposite samples: the logarithms of both ends add up."""
    first, second = Resampled(0.5, shares(-0.1, 0.1), MANY), Resampled(0.5, shares(0.1, -0.1), MANY)
    low, high = share(-0.1 * Z) / 0.5, share(0.1 * Z) / 0.5
    assert ends(ratio_of(first, second)) == pytest.approx((1.0, low / high, high / low))
    assert ends(ratio_of(first, first)) == (1.0, 1.0, 1.0)


def test_ratio_to_nothing_has_no_bound() -> None:
    one, none = Resampled(0.5, shares(-0.1, 0.1), 100.0), Resampled(0.0, np.zeros(2), 9.0)
    assert math.isnan(ratio_of(one, none).value)
    assert math.isnan(ratio_of(one, none).high)
    percentiles = ratio_of(Resampled(0.3, np.array([0.2, 0.1])), Resampled(0.6, np.array([0.4, 0.0])))
    assert ends(percentiles) == pytest.approx((0.5, 0.5, 0.5))


def test_p_value_is_five_percent_where_the_interval_ends_at_zero() -> None:
    first, second = Resampled(0.5, shares(*np.linspace(-0.1, 0.1, 999)), 100.0), Resampled(1.0, np.ones(999), 1.0)
    for value in np.linspace(0.3, 0.7, 9):
        other = Resampled(float(value), np.full(999, value), 60.0)
        gap, p = difference_of(first, other), p_of_difference(first, other)
        assert (p < 0.05) == (gap.low > 0 or gap.high < 0)
        assert p == pytest.approx(p_of_difference(other, first))
    assert p_of_difference(first, second) > 2 / 1000


def test_p_value_is_never_below_what_so_many_samples_can_show() -> None:
    first, second = (Resampled(value, np.full(39, value), 1e6) for value in (0.9, 0.1))
    assert p_of_difference(first, second) == pytest.approx(2 / 40)


def test_no_draws_have_no_p_value() -> None:
    assert np.isnan(p_value(np.array([])))
    assert np.isnan(p_value(np.array([NAN, NAN])))


def test_p_value_is_twice_the_smaller_tail_and_never_zero() -> None:
    assert p_value(np.array([1.0] * 39)) == pytest.approx(2 / 40)
    assert p_value(np.array([1.0] * 36 + [-1.0] * 3)) == pytest.approx(8 / 40)
    assert p_value(np.array([1.0, -1.0])) == 1
    assert p_value(np.zeros(9)) == 1

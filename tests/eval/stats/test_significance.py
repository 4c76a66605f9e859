"""eval.stats.significance on numbers that can be worked out by hand."""

import numpy as np
import pytest

from eval.stats.significance import ALPHA, holm, needed_resamples, p_value

NAN = float("nan")


def test_no_draws_have_no_p_value() -> None:
    assert np.isnan(p_value(np.array([])))
    assert np.isnan(p_value(np.array([NAN, NAN])))


def test_p_value_is_twice_the_smaller_tail_and_never_zero() -> None:
    assert p_value(np.array([1.0] * 39)) == pytest.approx(2 / 40)
    assert p_value(np.array([1.0] * 36 + [-1.0] * 3)) == pytest.approx(8 / 40)
    assert p_value(np.array([1.0, -1.0])) == 1
    assert p_value(np.zeros(9)) == 1


def test_holm_corrects_step_by_step_and_leaves_out_what_is_unknown() -> None:
    assert holm([]) == []
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, NAN, 0.02]) == pytest.approx([0.5, NAN, 0.04], nan_ok=True)


def test_with_enough_resamples_the_clearest_of_many_stays() -> None:
    assert needed_resamples(1) == 40
    for num in (1, 7, 30):
        least = p_value(np.ones(needed_resamples(num)))
        assert holm([least] + [1.0] * (num - 1))[0] < ALPHA
        fewer = p_value(np.ones(needed_resamples(num) - 2))
        assert holm([fewer] + [1.0] * (num - 1))[0] >= ALPHA

"""eval.stats.paired: differences of an entry to others on the same resamples, corrected for their number."""

import numpy as np
import pytest

from eval.stats.bootstrap import Estimate
from eval.stats.intervals import p_value
from eval.stats.measures import Bootstrapped
from eval.stats.paired import ALPHA, Comparison, compare_paired, holm, needed_resamples

NAN = float("nan")


def drawn(value: float, draws: list[float]) -> Bootstrapped:
    return Bootstrapped("ap40", ("Edema",), np.array([value]), np.array(draws, dtype=float).reshape(-1, 1))


def test_against_nobody_there_is_nothing_to_say() -> None:
    assert compare_paired(drawn(0.5, [0.4, 0.6]), {}) == []


def test_each_difference_is_paired_and_corrected_for_all_of_them() -> None:
    one = drawn(0.5, list(np.linspace(0.4, 0.6, 999)))
    below = drawn(0.3, list(np.linspace(0.2, 0.4, 999)))  # .2 lower in every resample
    same = drawn(0.5, list(np.linspace(0.6, 0.4, 999)))
    first, second = compare_paired(one, {"below": below, "same": same})
    assert (first.name, first.result, first.survives) == ("below", "better", True)
    assert (first.gap.value, first.gap.low, first.gap.high) == pytest.approx((0.2, 0.2, 0.2))
    assert first.p_holm == pytest.approx(2 * 2 / 1000)  # the least there is of 999 draws, times two comparisons
    assert (second.result, second.survives, second.p_holm) == ("not significantly different", False, 1)


def test_worse_and_unknown() -> None:
    assert Comparison("x", Estimate(-0.2, -0.3, -0.1), 0.01).result == "worse"
    (unknown,) = compare_paired(drawn(0.5, []), {"x": drawn(0.3, [])})
    assert (unknown.result, unknown.survives) == ("not significantly different", False)
    assert np.isnan(unknown.p_holm)


def test_a_clear_interval_need_not_survive_the_correction() -> None:
    assert not Comparison("x", Estimate(0.2, 0.01, 0.3), 0.06).survives


def test_holm_corrects_step_by_step_and_ignores_unknown_values() -> None:
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

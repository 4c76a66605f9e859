"""Variants compared with a reference: verdicts, correction, resamples of seeds; by hand or by loops."""

import math

import numpy as np
import pytest

from eval.experiments.comparison import Figures, Row, compare, correct, counts, mean_of, share_of, spread
from eval.stats.bootstrap import Estimate, percentile_interval

NAN = float("nan")


def figures(seed: int, *, shift: float = 0.0, num_samples: int = 500) -> Figures:
    """Two figures of one training: the point 0.5 + shift, and samples around it."""
    rng = np.random.default_rng(seed)
    return Figures(np.full(2, 0.5 + shift), 0.5 + shift + 0.01 * rng.standard_normal((num_samples, 2)))


def test_nothing_is_compared_with_nothing() -> None:
    assert compare({}, None) == []
    assert correct({}) == {}
    assert counts([]) == {"comparisons": 0, "real": 0, "real_after_holm": 0}


def test_a_single_patient_gives_values_without_intervals() -> None:
    alone = Figures(np.array([0.5]), np.zeros((0, 1)))
    reference = {0: Figures(np.array([0.25]), np.zeros((0, 1)))}
    (row,) = compare({"a": {0: alone}}, reference)
    assert (row.values[0].value, math.isnan(row.values[0].low)) == (0.5, True)
    assert row.verdict == "not significant: +0.250"
    assert math.isnan(row.p)


def test_a_single_training_has_no_resamples_of_seeds() -> None:
    one = figures(1)
    np.testing.assert_array_equal(mean_of([one]).samples, one.samples)


def test_seeds_are_resampled_with_the_patients() -> None:
    """By loops: which trainings a sample averages, their mean, stretched around the mean of all."""
    trainings = [figures(seed, shift=0.1 * seed, num_samples=40) for seed in range(3)]
    chosen = np.random.default_rng(3).integers(3, size=(40, 3))
    expected = np.empty((40, 2))
    for r in range(40):
        of_all = sum(one.samples[r] for one in trainings) / 3
        of_chosen = sum(trainings[place].samples[r] for place in chosen[r]) / 3
        expected[r] = of_all + math.sqrt(3 / 2) * (of_chosen - of_all)
    together = mean_of(trainings)
    np.testing.assert_allclose(together.samples, expected)
    np.testing.assert_allclose(together.values, 0.6)


@pytest.mark.parametrize("num", [2, 3, 5])
def test_the_spread_of_seeds_is_that_of_a_mean(num: int) -> None:
    """If patients make no difference, the samples vary by s^2 / S, as the mean of S trainings does."""
    points = np.random.default_rng(0).normal(0.5, 0.1, num)
    trainings = [Figures(np.array([x]), np.full((20000, 1), x)) for x in points]
    assert mean_of(trainings).samples.var() == pytest.approx(points.var(ddof=1) / num, rel=0.05)


def test_intervals_with_seeds_are_wider_where_seeds_disagree() -> None:
    own = {seed: figures(seed, shift=0.1 * seed) for seed in range(3)}
    reference = {seed: figures(seed + 9) for seed in range(3)}
    (row,) = compare({"a": own}, reference)
    patients = np.mean([own[seed].samples - reference[seed].samples for seed in range(3)], axis=0)[:, 0]
    narrow = percentile_interval(patients)
    assert row.difference is not None
    assert row.difference.value == pytest.approx(0.1)
    assert row.difference.low < narrow.low < narrow.high < row.difference.high
    assert row.differences_by_seed == pytest.approx((0.0, 0.1, 0.2))


def test_pairs_of_seeds_take_out_what_they_share() -> None:
    """Seeds that are good or bad for both sides alike do not widen the difference."""
    own = {seed: Figures(np.array([x]), np.full((300, 1), x)) for seed, x in enumerate((0.2, 0.5, 0.8))}
    reference = {seed: Figures(one.values - 0.1, one.samples - 0.1) for seed, one in own.items()}
    (row,) = compare({"a": own}, reference)
    assert row.difference == Estimate(*[pytest.approx(0.1)] * 3)
    assert row.values[0].low < 0.35
    assert row.values[0].high > 0.65
    assert row.is_replicated


def test_every_figure_has_its_gap() -> None:
    one, other = figures(1), figures(2, shift=0.2)
    (row,) = compare({"b": {0: other}}, {0: one})
    interval = percentile_interval((other.samples - one.samples)[:, 1])
    assert row.differences[1] == Estimate(pytest.approx(0.2), interval.low, interval.high)


def row(gap: tuple[float, float, float], *by_seed: float, p: float = 0.03) -> Row:
    figure = Estimate(0.8, 0.7, 0.9)
    return Row("v", (figure, figure), differences=(Estimate(*gap), figure), differences_by_seed=by_seed, p=p)


@pytest.mark.parametrize(
    ("given", "verdict", "real"),
    [
        (row((0.021, 0.008, 0.034), 0.03, 0.012), "significant: +0.021 [0.008, 0.034]", True),
        (row((-0.3, -0.5, -0.1), -0.3), "significant, one training: -0.300 [-0.500, -0.100]", False),
        (row((0.01, -0.008, 0.034), 0.03, -0.01), "not significant: +0.010 [-0.008, 0.034]", False),
        (row((0.021, 0.008, 0.034), 0.05, -0.01), "not significant: +0.021 [0.008, 0.034]; seeds disagree", False),
        (row((1.0, 1.0, 1.0), 1, 1), "significant: +1.000 [1.000, 1.000]", True),
    ],
)
def test_verdicts_in_words(given: Row, verdict: str, real: bool) -> None:
    assert (given.verdict, given.is_replicated) == (verdict, real)


def test_the_correction_counts_the_comparisons_of_all_groups() -> None:
    real = row((0.021, 0.008, 0.034), 0.02, p=0.03)
    assert correct({"a": [real]})["a"][0].survives_holm
    tables = correct({"a": [real, row((0, -1, 1), 0.0, p=0.9)], "b": [row((0, -1, 1), 0.0, p=0.8)]})
    assert tables["a"][0].p_holm == pytest.approx(0.09)
    assert tables["a"][0].is_significant
    assert not tables["a"][0].survives_holm


def test_shares_and_spreads() -> None:
    own = Figures(np.array([0.3, 0.1]), np.array([[0.2, 0.1], [0.4, 0.1], [0.1, 0.1]]))
    whole = Figures(np.array([0.6, 0.9]), np.array([[0.4, 0.9], [0.5, 0.9], [0.0, 0.9]]))
    share = share_of(own, whole)
    assert (share.value, share.low, share.high) == pytest.approx((0.5, 0.5075, 0.7925))  # of .5, .8 and NaN
    assert math.isnan(spread([0.4]))
    assert spread([0.4, 0.6]) == pytest.approx(math.sqrt(0.02))

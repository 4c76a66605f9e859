"""Variants beside a reference: verdicts, corrections, draws that tell of seeds too; by hand or by loops."""

import math

import numpy as np
import pytest

from eval.experiments.variants import (
    Figures,
    Row,
    compare,
    correct,
    mean_of,
    mean_with_seeds,
    signed_interval,
    verdicts_in_words,
)
from eval.report.blocks import Table
from eval.report.text_tables import markdown
from eval.stats.bootstrap import Difference, percentile_interval

NAN = float("nan")


def figures(seed: int, *, shift: float = 0.0, num_draws: int = 500) -> Figures:
    """Two figures of one training: the point 0.5 + shift, and draws about it."""
    rng = np.random.default_rng(seed)
    return Figures(np.full(2, 0.5 + shift), 0.5 + shift + 0.01 * rng.standard_normal((num_draws, 2)))


def test_nothing_is_compared_with_nothing() -> None:
    assert compare({}, None) == []
    assert correct({}) == {}
    assert verdicts_in_words({}, num_seeds=2) == (
        "Real differences: none. After Holm's correction for 0 comparisons: none."
    )


def test_a_single_patient_gives_values_without_intervals() -> None:
    alone = Figures(np.array([0.5]), np.zeros((0, 1)))
    reference = {0: Figures(np.array([0.25]), np.zeros((0, 1)))}
    (row,) = compare({"a": {0: alone}}, reference, together=mean_with_seeds)
    assert (row.values[0].value, math.isnan(row.values[0].low)) == (0.5, True)
    assert row.verdict == "not shown: +.250"
    assert math.isnan(row.p)


def test_one_training_has_no_luck_that_could_be_drawn() -> None:
    one = figures(1)
    np.testing.assert_array_equal(mean_with_seeds([one]).draws, one.draws)


def test_seeds_are_drawn_in_every_draw_of_patients() -> None:
    """The same by loops: which trainings a draw holds, their mean, stretched about the mean of all."""
    trainings = [figures(seed, shift=0.1 * seed, num_draws=40) for seed in range(3)]
    chosen = np.random.default_rng(3).integers(3, size=(40, 3))
    expected = np.empty((40, 2))
    for r in range(40):
        of_all = sum(one.draws[r] for one in trainings) / 3
        of_drawn = sum(trainings[place].draws[r] for place in chosen[r]) / 3
        expected[r] = of_all + math.sqrt(3 / 2) * (of_drawn - of_all)
    together = mean_with_seeds(trainings)
    np.testing.assert_allclose(together.draws, expected)
    np.testing.assert_allclose(together.point, 0.6)


@pytest.mark.parametrize("num", [2, 3, 5])
def test_the_spread_of_seeds_is_that_of_a_mean(num: int) -> None:
    """Without any luck of patients the draws vary by s^2 / S, as the mean of S trainings does."""
    points = np.random.default_rng(0).normal(0.5, 0.1, num)
    trainings = [Figures(np.array([x]), np.full((20000, 1), x)) for x in points]
    assert mean_with_seeds(trainings).draws.var() == pytest.approx(points.var(ddof=1) / num, rel=0.05)
    assert mean_of(trainings).draws.var() == pytest.approx(0)


def test_intervals_with_seeds_are_wider_where_seeds_disagree() -> None:
    own = {seed: figures(seed, shift=0.1 * seed) for seed in range(3)}
    reference = {seed: figures(seed + 9) for seed in range(3)}
    (narrow,), (wide,) = (compare({"a": own}, reference, together=how) for how in (mean_of, mean_with_seeds))
    assert narrow.gap is not None and wide.gap is not None
    assert narrow.gap.value == wide.gap.value == pytest.approx(0.1)
    assert wide.gap.low < narrow.gap.low < narrow.gap.high < wide.gap.high
    assert wide.by_seed == pytest.approx((0.0, 0.1, 0.2))


def test_pairs_of_seeds_take_out_what_they_share() -> None:
    """Seeds that are good or bad for both sides alike do not widen the difference."""
    own = {seed: Figures(np.array([x]), np.full((300, 1), x)) for seed, x in enumerate((0.2, 0.5, 0.8))}
    reference = {seed: Figures(one.point - 0.1, one.draws - 0.1) for seed, one in own.items()}
    (row,) = compare({"a": own}, reference, together=mean_with_seeds)
    assert row.gap == Difference(*[pytest.approx(0.1)] * 3)
    assert row.values[0].low < 0.35
    assert row.values[0].high > 0.65
    assert row.is_real


def test_every_figure_has_its_gap() -> None:
    one, other = figures(1), figures(2, shift=0.2)
    (row,) = compare({"b": {0: other}}, {0: one})
    interval = percentile_interval((other.draws - one.draws)[:, 1])
    assert row.gaps[1] == Difference(pytest.approx(0.2), interval.low, interval.high)


def test_intervals_in_words() -> None:
    assert signed_interval(Difference(-0.02, -0.04, 0.0)) == "−.020 [−.040, .000]"
    assert signed_interval(Difference(0.5, NAN, NAN)) == "+.500"


def row(gap: tuple[float, float, float], *by_seed: float, p: float = 0.03) -> Row:
    figure = Difference(0.8, 0.7, 0.9)
    return Row("v", (figure, figure), gaps=(Difference(*gap), figure), by_seed=by_seed, p=p)


@pytest.mark.parametrize(
    ("given", "verdict", "real"),
    [
        (row((0.021, 0.008, 0.034), 0.03, 0.012), "real: +.021 [.008, .034]", True),
        (row((-0.3, -0.5, -0.1), -0.3), "clear, one training: −.300 [−.500, −.100]", False),
        (row((0.01, -0.008, 0.034), 0.03, -0.01), "not shown: +.010 [−.008, .034]", False),
        (row((0.021, 0.008, 0.034), 0.05, -0.01), "not shown: +.021 [.008, .034]; seeds disagree", False),
        (row((1, 1, 1), 1, 1), "real: +1.000 [1.000, 1.000]", True),
    ],
)
def test_verdicts_in_words(given: Row, verdict: str, real: bool) -> None:
    assert (given.verdict, given.is_real) == (verdict, real)


def test_the_correction_counts_the_comparisons_of_all_groups() -> None:
    real = row((0.021, 0.008, 0.034), 0.02, p=0.03)
    assert correct({"a": [real]})["a"][0].survives_holm
    tables = correct({"a": [real, row((0, -1, 1), 0.0, p=0.9)], "b": [row((0, -1, 1), 0.0, p=0.8)]})
    assert tables["a"][0].p_holm == pytest.approx(0.09)
    assert tables["a"][0].is_clear
    assert not tables["a"][0].survives_holm


def test_markdown() -> None:
    table = Table("heads", ["variant", "AUROC"], [["a|b", 0.5], ["c", None]], "4 cases.")
    assert markdown(table).splitlines() == [
        "## heads", "", "| variant | AUROC |", "| --- | --- |", "| a/b | 0.500 |", "| c | – |", "", "4 cases.",
    ]  # fmt: skip


def test_what_is_real_in_a_sentence() -> None:
    rows = {
        "g/a": row((0.021, 0.008, 0.034), 0.02, 0.02),
        "g/b": row((0, -1, 1), 0.0, 0.0),
        "g/c": Row("c", ()),
    }
    told = verdicts_in_words(rows, num_seeds=2)
    assert told == "Real differences: 1 (g/a +.021). After Holm's correction for 2 comparisons: none."
    told = verdicts_in_words({"g/a": correct({"": [rows["g/a"]]})[""][0]}, num_seeds=1)
    assert told == (
        "Clear on these cases, with one training each: 1 (g/a +.021). "
        "After Holm's correction for 1 comparisons: 1 (g/a)."
    )

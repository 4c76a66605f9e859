"""Expectation-maximisation over readers' marks: tiny cases, the maximum of its objective by scipy, drawn readers."""

import numpy as np
import pytest
from scipy.optimize import minimize

from cxr.reader_em import Marks, probability_real


def marks_of(rows: list[str], *, silent: int = 0, findings: list[int] | None = None) -> Marks:
    """One place a row and one reader a column: x marked, - read and not marked, blank not read."""
    signs = np.array([list(row) for row in rows]).reshape(len(rows), -1)
    finding = np.zeros(len(rows), dtype=np.int64) if findings is None else np.array(findings)
    return Marks(signs == "x", signs != " ", np.full(len(rows), silent), finding)


def drawn(num: int, sensitivity: list[float], false_rate: list[float], *, seed: int) -> tuple[Marks, np.ndarray]:
    """Places of which half are real, each read by three random readers; places that nobody marked do not appear."""
    rng = np.random.default_rng(seed)
    real, num_readers = rng.uniform(size=num) < 0.5, len(sensitivity)
    read = rng.uniform(size=(num, num_readers)).argsort(axis=1) < 3
    rate = np.where(real[:, None], sensitivity, false_rate)
    marked = read & (rng.uniform(size=read.shape) < rate)
    seen = marked.any(axis=1)
    silent = np.zeros(seen.sum(), dtype=np.int64)
    return Marks(marked[seen], read[seen], silent, silent), real[seen]


def test_without_places_there_is_no_probability() -> None:
    real, quality = probability_real(Marks(np.zeros((0, 0), bool), np.zeros((0, 0), bool), *[np.zeros(0, int)] * 2))
    assert real.shape == quality.sensitivity.shape == quality.prior.shape == (0,)


@pytest.mark.parametrize(
    ("row", "odds"), [("x", 3), ("xx-", 3), ("x--", 1 / 3), ("x-", 1), ("xxx", 27), ("x----", 1 / 27)]
)
def test_a_place_alone_is_real_if_more_than_half_mark_it(row: str, odds: float) -> None:
    """What a single place tells of the readers makes the first guess clearer, whatever it is."""
    (real,), _ = probability_real(marks_of([row]))
    assert (real > 0.5 + 1e-6, real < 0.5 - 1e-6) == (odds > 1, odds < 1)
    assert abs(np.log(real / (1 - real))) >= abs(np.log(odds)) - 1e-6


def test_places_that_all_mark_are_real_and_a_reader_alone_is_believed() -> None:
    assert probability_real(marks_of(["xxx"] * 4))[0].min() > 0.97
    assert probability_real(marks_of(["x", "x"]))[0].min() > 0.75


def test_who_marks_alone_matters() -> None:
    """The first reader marks alone what nobody confirms; the last one agrees with the others otherwise."""
    rows = ["x--"] * 12 + ["-xx"] * 12 + ["xxx"] * 4 + ["--x"]
    real, quality = probability_real(marks_of(rows))
    assert quality.false_rate[0] > 0.8
    assert quality.false_rate[2] < 0.2
    assert real[0] < 0.1 < real[-1]
    assert real[12:28].min() > 0.9


def test_silent_readers_count_as_those_who_did_not_mark() -> None:
    rows = ["xx-"] * 6 + ["x--"] * 6
    few, many = (probability_real(marks_of(rows, silent=silent))[0] for silent in (0, 2))
    assert few[-1] > many[-1]


def test_a_finding_that_readers_confirm_more_often_has_the_higher_prior() -> None:
    rows = ["xxx"] * 6 + ["x--"] * 6 + ["-x-", "-x-"]
    real, quality = probability_real(marks_of(rows, findings=[0] * 6 + [1] * 6 + [0, 1]))
    assert quality.prior[0] > quality.prior[1]
    assert real[-2] > real[-1]


def objective(numbers: np.ndarray, marks: Marks) -> float:
    """Minus the logarithm of the likelihood times that of the cases before the data, of one finding."""
    rates = 1 / (1 + np.exp(-numbers))
    prior, per_reader = rates[0], rates[1:].reshape(2, -1)
    right, wrong = per_reader
    before = [prior**2 * (1 - prior) ** 2, *(right**3 * (1 - right)), *(wrong * (1 - wrong) ** 3)]
    total = -np.log(before).sum()
    for marked, read in zip(marks.marked, marks.read, strict=True):
        chance = [np.prod(np.where(marked, rate, 1 - rate)[read]) for rate in per_reader]
        total -= np.log(prior * chance[0] + (1 - prior) * chance[1])
    return float(total)


@pytest.mark.parametrize("seed", range(2))
def test_the_rates_maximise_the_likelihood(seed: int) -> None:
    marks, _ = drawn(120, [0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.1, 0.4], seed=seed)
    _, quality = probability_real(marks)
    rates = np.concatenate([quality.prior, quality.sensitivity, quality.false_rate])
    ours = np.log(rates / (1 - rates))
    best = minimize(objective, ours, args=(marks,), method="BFGS")
    assert objective(ours, marks) == pytest.approx(best.fun, abs=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-best.x)), rates, atol=0.01)


def test_a_careless_reader_harms_less_than_in_a_majority() -> None:
    marks, truth = drawn(3000, [0.9, 0.9, 0.9, 0.6], [0.05, 0.05, 0.05, 0.8], seed=0)
    real, quality = probability_real(marks)
    majority = marks.marked.sum(axis=1) >= 2
    wrong = {"em": (real >= 0.5) != truth, "majority": majority != truth}
    assert wrong["em"].mean() < 0.85 * wrong["majority"].mean()
    np.testing.assert_allclose(quality.sensitivity, [0.9, 0.9, 0.9, 0.6], atol=0.04)

"""Which cases an epoch holds: counts, weights, and the same steps for any number of processes."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.config import UserError
from stage1_classify.training.sampling import EpochSampler, case_weights, make_sampler
from tests.stage1_classify.stage1_builders import FINDINGS, stage1_settings, targets

NAN = float("nan")


def rare(*, positives: int = 3, negatives: int = 17) -> np.ndarray:
    """Targets whose first finding has the positives first; the second has none."""
    return targets(*[[1, 0]] * positives, *[[0, 0]] * negatives)


def sampler(
    values: np.ndarray, *, batch_size: int = 2, rank: int = 0, world_size: int = 1, **sampling: Any
) -> EpochSampler:
    """The sampler of a training split with these targets."""
    settings = stage1_settings(Path("nowhere"), train={"batch_size": batch_size}, sampling=sampling, seed=3)
    return make_sampler(values, settings, rank=rank, world_size=world_size)


def epoch_of(it: EpochSampler, epoch: int = 0) -> list[int]:
    it.epoch = epoch
    return [index for batch in it for index in batch]


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_the_default_is_a_permutation_by_seed_and_epoch(epoch: int) -> None:
    expected = np.random.default_rng((3, epoch)).permutation(20)
    assert epoch_of(sampler(rare()), epoch) == expected.tolist()


def test_order_depends_on_seed_and_epoch() -> None:
    it = EpochSampler(20, 5, seed=0)
    first = epoch_of(it)
    assert epoch_of(it, 1) != first
    assert epoch_of(it) == first
    assert epoch_of(EpochSampler(20, 5, seed=1)) != first


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"num_samples": 31},
        {"normal_weight": 0.1},
        {"balance": "oversample", "balance_finding": "Lung Lesion"},
        {"balance": "undersample", "balance_finding": "Lung Lesion"},
    ],
)
def test_processes_together_take_the_steps_of_one(world_size: int, sampling: dict[str, Any]) -> None:
    values = rare(positives=9, negatives=12)
    alone = list(sampler(values, batch_size=8, **sampling))
    shares = [
        list(sampler(values, batch_size=8, rank=rank, world_size=world_size, **sampling)) for rank in range(world_size)
    ]
    together = [sorted(index for share in step for index in share) for step in zip(*shares, strict=True)]
    assert together == [sorted(step) for step in alone]
    assert len(alone) == len(sampler(values, batch_size=8, **sampling)) >= 2


def test_impossible_batches_are_refused() -> None:
    with pytest.raises(UserError, match="multiple of the 2 processes"):
        EpochSampler(20, 5, seed=0, world_size=2)
    with pytest.raises(UserError, match="an epoch has 3 cases"):
        EpochSampler(3, 5, seed=0)
    with pytest.raises(UserError, match="an epoch has 3 cases"):
        sampler(rare(), batch_size=4, num_samples=3)


def test_fewer_samples_than_cases_are_all_different_and_others_each_epoch() -> None:
    it = sampler(rare(), num_samples=8)
    first = epoch_of(it)
    assert len(set(first)) == len(first) == 8
    assert set(epoch_of(it, 1)) != set(first)


def test_more_samples_than_cases_repeat_each_evenly() -> None:
    counts = Counter(epoch_of(sampler(rare(), num_samples=50)))
    assert len(counts) == 20
    assert set(counts.values()) == {2, 3}


def test_normal_cases_come_as_often_as_their_weight_says() -> None:
    it = sampler(rare(positives=10, negatives=10), num_samples=5000, normal_weight=0.1)
    share = np.mean(np.array(epoch_of(it)) < 10)
    assert share == pytest.approx(1 / 1.1, abs=0.03)  # seven standard deviations


def test_a_case_is_normal_without_a_positive_disease() -> None:
    values = targets([1, 0], [0, 1], [0, 0], [NAN, -1], [0.6, 0], [0.3, 0])
    settings = stage1_settings(Path("nowhere"), sampling={"normal_weight": 0.1}).sampling
    np.testing.assert_array_equal(case_weights(values, settings, FINDINGS), [1, 1, 0.1, 0.1, 1, 0.1])
    np.testing.assert_array_equal(case_weights(values, settings, ["Edema", "No Finding"]), [1, 0.1, 0.1, 0.1, 1, 0.1])


def test_oversampling_repeats_the_fewer_evenly() -> None:
    counts = Counter(epoch_of(sampler(rare(), balance="oversample", balance_finding="Lung Lesion")))
    assert sum(counts.values()) == 34
    assert sorted(counts[index] for index in range(3)) == [5, 6, 6]
    assert all(counts[index] == 1 for index in range(3, 20))


def test_undersampling_takes_other_majority_cases_each_epoch() -> None:
    it = sampler(rare(), balance="undersample", balance_finding="Lung Lesion")
    epochs = [epoch_of(it, number) for number in range(4)]
    for sampled in epochs:
        assert len(set(sampled)) == len(sampled) == 6
        assert {0, 1, 2} < set(sampled)
    assert len({frozenset(sampled) for sampled in epochs}) > 1


def test_the_majority_may_be_the_positives() -> None:
    it = sampler(rare(positives=17, negatives=3), balance="undersample", balance_finding="Lung Lesion")
    assert {17, 18, 19} < set(epoch_of(it))


def test_balanced_cases_are_mixed() -> None:
    sampled = epoch_of(sampler(rare(), balance="oversample", balance_finding="Lung Lesion"))
    assert 0 < sum(index < 3 for index in sampled[:17]) < 17


@pytest.mark.parametrize("balance", ["oversample", "undersample"])
def test_balance_with_a_number_of_samples(balance: str) -> None:
    it = sampler(rare(), batch_size=1, balance=balance, balance_finding="Lung Lesion", num_samples=5)
    sampled = epoch_of(it)
    assert sum(index < 3 for index in sampled) == 2
    assert len(set(sampled)) == len(sampled) == 5


def test_undersampling_cannot_give_more_than_it_has() -> None:
    with pytest.raises(UserError, match=r"num_samples: got 7, but undersampling leaves 6 cases"):
        sampler(rare(), balance="undersample", balance_finding="Lung Lesion", num_samples=7)


def test_cases_of_unknown_balance_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    values = targets([1, 0], [0, 0], [NAN, 1], [-1, 1], [0.7, 0], [0.2, 0])
    with caplog.at_level(logging.INFO, logger="raybox"):
        it = sampler(values, balance="oversample", balance_finding="Lung Lesion")
    assert sorted(epoch_of(it)) == [0, 1, 4, 5]
    assert "2 cases without a certain label of Lung Lesion" in caplog.text


def test_weights_also_hold_within_a_balanced_side() -> None:
    values = targets([1, 0], *[[0, 1]] * 5, *[[0, 0]] * 5)
    it = sampler(values, normal_weight=0.1, balance="oversample", balance_finding="Lung Lesion", num_samples=2000)
    counts = Counter(epoch_of(it))
    assert counts[0] == 1000
    assert sum(counts[index] for index in range(1, 6)) > 800


def test_a_finding_to_balance_must_be_there_with_positives_and_negatives() -> None:
    with pytest.raises(UserError, match=r"sampling\.balance_finding: finding 'Lung Lesio' is not there"):
        sampler(rare(), balance="oversample", balance_finding="Lung Lesio")
    with pytest.raises(UserError, match=r"Pleural Effusion has 0 positives and 20 negatives"):
        sampler(rare(), balance="oversample", balance_finding="Pleural Effusion")


def test_sets_are_sampled_by_their_weights() -> None:
    """A case of the first set is drawn three times as often; weights of normal cases and of sets multiply."""
    settings = stage1_settings(
        Path("nowhere"), sampling={"set_weights": {"north": 3.0}, "normal_weight": 0.5, "num_samples": 40}, seed=3
    )
    values, sets = targets([1, 0], [0, 0], [1, 0], [0, 0]), ["north", "north", "south", "south"]
    drawn = epoch_of(make_sampler(values, settings, sets=sets))
    weights = np.array([3.0, 1.5, 1.0, 0.5])
    expected = np.random.default_rng((3, 0)).choice(np.arange(4), 40, p=weights / weights.sum())
    assert drawn == expected.tolist()


@pytest.mark.parametrize("sets", [None, ["north"] * 4])
def test_weights_of_unknown_sets_are_refused(sets: list[str] | None) -> None:
    settings = stage1_settings(Path("nowhere"), sampling={"set_weights": {"nort": 3.0}})
    with pytest.raises(UserError, match="no data set 'nort'"):
        make_sampler(rare()[:4], settings, sets=sets)

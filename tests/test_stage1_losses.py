import math

import numpy as np
import pytest
import torch
from stage1_builders import targets

from stage1_classify.losses import masked_bce, positive_weights


def test_positive_weights_exact_values() -> None:
    labels = targets([1, 0, 1, np.nan], [0, 0, 1, np.nan], [0, 0, np.nan, 1], [0, 0, 1, np.nan], [0, 0, 0, 0])
    np.testing.assert_allclose(positive_weights(labels, cap=10), [4, 1, 1 / 3, 1])
    np.testing.assert_allclose(positive_weights(labels, cap=2), [2, 1, 1 / 3, 1])


def test_soft_targets_count_by_their_value() -> None:
    np.testing.assert_allclose(positive_weights(targets([0.5], [0]), cap=10), [3])


def test_bce_exact_value_with_weight_and_mask() -> None:
    logits = torch.tensor([[0.0, 2.0], [0.0, 5.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, float("nan")]])
    expected = (3 * math.log(2) + math.log1p(math.exp(2)) + math.log(2)) / 4
    got = masked_bce(logits, labels, positive_weight=torch.tensor([3.0, 1.0]))
    assert got.item() == pytest.approx(expected)


def test_masked_targets_give_no_gradient() -> None:
    logits = torch.zeros(1, 2, requires_grad=True)
    masked_bce(logits, torch.tensor([[float("nan"), 1.0]]), positive_weight=torch.ones(2)).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] == 0
    assert logits.grad[0, 1] < 0


def test_halves_of_a_batch_average_to_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=generator)
    labels = torch.randint(0, 2, (6, 3), generator=generator).float()
    labels[0] = float("nan")
    weight = torch.tensor([2.0, 1.0, 5.0])
    whole = masked_bce(logits, labels, positive_weight=weight)
    halves = [masked_bce(logits[i::2], labels[i::2], positive_weight=weight) for i in (0, 1)]
    torch.testing.assert_close(sum(halves) / 2, whole)


def test_smoothing_moves_targets_towards_a_half() -> None:
    logits = torch.tensor([[10.0]])
    hard = masked_bce(logits, torch.tensor([[1.0]]), positive_weight=torch.ones(1))
    soft = masked_bce(logits, torch.tensor([[1.0]]), positive_weight=torch.ones(1), smoothing=0.1)
    assert soft - hard == pytest.approx(1.0, abs=1e-3)  # a tenth of the target now wants -10

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from cxr.config import UserError
from cxr.tables import NOT_ASKED
from stage1_classify.data.targets import training_targets
from stage1_classify.settings.classifier import LabelSettings
from stage1_classify.settings.training import LossSettings
from stage1_classify.training.losses import MultilabelLoss, auc_margin_cost, positive_weights
from tests.stage1_classify.stage1_builders import targets

NAN = float("nan")
FINDINGS = ["Edema", "Fracture", "Pneumonia"]
KINDS = [
    {"kind": "bce"},
    {"kind": "focal", "focal_gamma": 2.0},
    {"kind": "focal", "focal_gamma": 0.5},
    {"kind": "asymmetric", "gamma_positive": 1.0, "gamma_negative": 4.0},
    {"kind": "asymmetric", "gamma_negative": 0.5, "probability_margin": 0.0},
]


def loss_of(
    outputs: Tensor,
    labels: Tensor,
    *,
    positive: list[float] | None = None,
    uncertain: list[int] | None = None,
    **settings: Any,
) -> Tensor:
    """The loss with settings for the first findings of FINDINGS."""
    findings = FINDINGS[: labels.shape[1]]
    weight = torch.ones(len(findings)) if positive is None else torch.tensor(positive)
    loss = MultilabelLoss(
        LossSettings.model_validate(settings),
        findings=findings,
        positive_weight=weight,
        uncertain_columns=uncertain or [],
    )
    return loss(outputs, labels)


def random_batch(*, columns: int = 3, rows: int = 6) -> tuple[Tensor, Tensor]:
    """Logits (6, columns) and hard labels (6, 3)."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, columns, generator=generator)
    return logits, torch.randint(0, 2, (rows, 3), generator=generator).float()


def test_auc_margin_is_the_spread_of_each_side_and_the_missing_distance() -> None:
    """Probabilities .9 and .7 of positives, .2 and .4 of negatives: variances .01, distance of the means .5."""
    logits = torch.logit(torch.tensor([[0.9, 0.9], [0.7, 0.7], [0.2, 0.2], [0.4, 0.4], [0.5, 0.5]]))
    labels = torch.tensor([[1, 1], [1, 1], [0, 1], [0, 1], [NAN, -1.0]])
    cost = auc_margin_cost(logits, labels, margin=1.0)
    torch.testing.assert_close(cost, torch.tensor([0.01 + 0.01 + 0.25, 0.0]))
    torch.testing.assert_close(auc_margin_cost(logits, labels, margin=0.4)[0], torch.tensor(0.02))
    whole = loss_of(logits, labels, kind="auc_margin", class_weights={"Edema": 2.0})
    torch.testing.assert_close(whole, torch.tensor(0.27))


def test_auc_margin_is_the_saddle_point_of_the_reference() -> None:
    """LibAUC's AUCMLoss at the best a, b and alpha; it weights both sides by p (1 - p)."""
    logits, labels = random_batch(rows=12)
    scores, positive = torch.sigmoid(logits[:, 0]), labels[:, 0] == 1
    share = positive.float().mean()
    a, b = scores[positive].mean(), scores[~positive].mean()
    alpha = torch.relu(1 + b - a)
    reference = (
        (1 - share) * ((scores - a) ** 2 * positive).mean()
        + share * ((scores - b) ** 2 * ~positive).mean()
        + 2 * alpha * (share * (1 - share) + (share * scores * ~positive - (1 - share) * scores * positive).mean())
        - share * (1 - share) * alpha**2
    )
    ours = auc_margin_cost(logits[:, :1], labels[:, :1], margin=1.0)
    torch.testing.assert_close(ours[0] * share * (1 - share), reference)


def test_auc_margin_has_a_gradient_only_where_a_batch_has_both_sides() -> None:
    logits = torch.zeros(4, 2, requires_grad=True)
    loss_of(logits, torch.tensor([[1.0, 1], [0, 1], [0, 1], [NAN, 1]]), kind="auc_margin").backward()
    assert logits.grad is not None
    assert torch.sign(logits.grad).tolist() == [[-1, 0], [1, 0], [1, 0], [0, 0]]


def test_positive_weights_exact_values() -> None:
    labels = targets([1, 0, 1, np.nan], [0, 0, 1, np.nan], [0, 0, np.nan, 1], [0, 0, 1, np.nan], [0, 0, 0, 0])
    np.testing.assert_allclose(positive_weights(labels, cap=10), [4, 1, 1 / 3, 1])
    np.testing.assert_allclose(positive_weights(labels, cap=2), [2, 1, 1 / 3, 1])


def test_positive_weights_of_nothing_are_one() -> None:
    np.testing.assert_array_equal(positive_weights(np.zeros((0, 2), np.float32), cap=10), [1, 1])


def test_soft_targets_count_by_their_value_and_uncertain_ones_not() -> None:
    np.testing.assert_allclose(positive_weights(targets([0.5], [0], [-1], [np.nan]), cap=10), [3])


def test_bce_exact_value_with_weight_and_mask() -> None:
    logits = torch.tensor([[0.0, 2.0], [0.0, 5.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, NAN]])
    expected = (3 * math.log(2) + math.log1p(math.exp(2)) + math.log(2)) / 4
    assert loss_of(logits, labels, positive=[3.0, 1.0]).item() == pytest.approx(expected)


def test_class_weights_multiply_a_findings_whole_cost() -> None:
    logits, labels = torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    weighted = loss_of(logits, labels, class_weights={"Fracture": 3.0})
    assert weighted.item() == pytest.approx((1 + 1 + 3 + 3) / 4 * math.log(2))
    with pytest.raises(UserError, match=r"loss\.class_weights: finding 'Fractur'.*nearest: 'Fracture'"):
        loss_of(logits, labels, class_weights={"Fractur": 3.0})


@pytest.mark.parametrize("settings", KINDS)
def test_masked_targets_cost_nothing_and_give_no_gradient(settings: dict[str, Any]) -> None:
    logits = torch.zeros(1, 2, requires_grad=True)
    loss_of(logits, torch.tensor([[NAN, 1.0]]), **settings).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] == 0
    assert logits.grad[0, 1] < 0


@pytest.mark.parametrize("settings", KINDS)
def test_halves_of_a_batch_average_to_the_whole(settings: dict[str, Any]) -> None:
    logits, labels = random_batch(columns=4)
    labels[0], labels[1, 2] = NAN, -1
    given = {"positive": [2.0, 1.0, 5.0], "uncertain": [2], **settings}
    whole = loss_of(logits, labels, **given)
    halves = [loss_of(logits[i::2], labels[i::2], **given) for i in (0, 1)]
    torch.testing.assert_close(sum(halves) / 2, whole)


def test_smoothing_moves_targets_towards_a_half() -> None:
    logits = torch.tensor([[10.0]])
    hard = loss_of(logits, torch.tensor([[1.0]]))
    soft = loss_of(logits, torch.tensor([[1.0]]), label_smoothing=0.1)
    assert soft - hard == pytest.approx(1.0, abs=1e-3)  # a tenth of the target now wants -10


def test_the_default_is_the_weighted_bce() -> None:
    logits, labels = random_batch()
    labels = labels * 0.9
    weight = torch.tensor([2.0, 1.0, 5.0])
    expected = functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=weight)
    assert torch.equal(loss_of(logits, labels, positive=[2.0, 1.0, 5.0]), expected)
    cost = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    cost[0, 1] = 0
    labels[0, 1] = NAN
    assert torch.equal(loss_of(logits, labels), cost.mean())


@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.0])
def test_focal_equals_torchvisions(gamma: float) -> None:
    logits, labels = random_batch()
    expected = sigmoid_focal_loss(logits, labels, alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(loss_of(logits, labels, kind="focal", focal_gamma=gamma), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "focal", "focal_gamma": 0.0},
        {"kind": "asymmetric", "gamma_positive": 0.0, "gamma_negative": 0.0, "probability_margin": 0.0},
    ],
)
def test_without_focus_every_kind_is_the_bce(settings: dict[str, Any]) -> None:
    logits, labels = random_batch()
    labels = labels * 0.7 + 0.1
    weight = [2.0, 1.0, 5.0]
    torch.testing.assert_close(
        loss_of(logits, labels, positive=weight, **settings), loss_of(logits, labels, positive=weight)
    )


def slow_asymmetric(logit: float, target: float, *, gammas: tuple[float, float], margin: float, weight: float) -> float:
    """Ridnik et al. 2021 as written, for one label."""
    p = 1 / (1 + math.exp(-logit))
    shifted = max(p - margin, 0)
    positive = (1 - p) ** gammas[0] * math.log(p)
    negative = shifted ** gammas[1] * math.log(1 - shifted)
    return -(target * weight * positive + (1 - target) * negative)


@pytest.mark.parametrize(("gammas", "margin"), [((0, 4), 0.05), ((1, 2), 0.3), ((0.5, 0.5), 0.0), ((0, 0), 0.2)])
def test_asymmetric_equals_the_formula_written_out(gammas: tuple[float, float], margin: float) -> None:
    logits, labels = random_batch()
    labels = labels * 0.6 + 0.2
    weight = [2.0, 1.0, 5.0]
    costs = [
        slow_asymmetric(z, t, gammas=gammas, margin=margin, weight=w)
        for zs, ts in zip(logits.tolist(), labels.tolist(), strict=True)
        for z, t, w in zip(zs, ts, weight, strict=True)
    ]
    got = loss_of(
        logits,
        labels,
        positive=weight,
        kind="asymmetric",
        gamma_positive=gammas[0],
        gamma_negative=gammas[1],
        probability_margin=margin,
    )
    assert got.item() == pytest.approx(np.mean(costs), rel=1e-5)


def test_negatives_below_the_margin_cost_nothing() -> None:
    logits = torch.tensor([[-4.0], [0.0]], requires_grad=True)  # probabilities .018 and .5
    loss = loss_of(logits, torch.zeros(2, 1), kind="asymmetric", probability_margin=0.05)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] == 0
    assert logits.grad[1, 0] > 0


def test_three_classes_cost_the_cross_entropy() -> None:
    outputs, _ = random_batch(columns=3)
    classes = torch.tensor([0, 1, 2, 0, 1, 2])
    labels = torch.stack([torch.zeros(6), torch.tensor([0.0, 1.0, -1.0])[classes]], dim=1)
    logits = torch.stack([torch.zeros(6), outputs[:, 1], outputs[:, 2]], dim=1)  # negative, positive, uncertain
    first = functional.softplus(outputs[:, 0]).mean()
    expected = (first + functional.cross_entropy(logits, classes)) / 2
    torch.testing.assert_close(loss_of(outputs, labels, uncertain=[1]), expected)


def test_soft_certain_targets_of_three_classes() -> None:
    outputs = torch.tensor([[0.7, -0.4]])
    shares = torch.tensor([[0.2, 0.8, 0.0]])
    expected = functional.cross_entropy(torch.tensor([[0.0, 0.7, -0.4]]), shares)
    torch.testing.assert_close(loss_of(outputs, torch.tensor([[0.8]]), uncertain=[0]), expected)


def test_the_uncertain_logits_stand_in_the_order_of_their_columns() -> None:
    outputs = torch.zeros(1, 5)
    outputs[0, 4] = 9.0  # of the third finding
    labels = torch.tensor([[-1.0, 0.0, -1.0]])
    sure = loss_of(outputs, labels, uncertain=[0, 2])
    outputs[0, 4], outputs[0, 3] = 0.0, 9.0
    other = loss_of(outputs, labels, uncertain=[2, 0])
    torch.testing.assert_close(sure, other)
    assert sure.item() == pytest.approx((math.log(3) + math.log(2)) / 3, abs=1e-3)


def test_masked_targets_of_three_classes_cost_nothing() -> None:
    outputs = torch.ones(1, 2, requires_grad=True)
    loss_of(outputs, torch.tensor([[NAN]]), uncertain=[0]).backward()
    assert outputs.grad is not None
    assert (outputs.grad == 0).all()


@pytest.mark.parametrize("settings", KINDS)
@pytest.mark.parametrize("value", [1e4, -1e4, 100.0, -100.0, 0.0])
def test_extreme_logits_have_finite_costs_and_gradients(settings: dict[str, Any], value: float) -> None:
    outputs = torch.full((5, 4), value, requires_grad=True)
    labels = torch.tensor([0.0, 1.0, 0.5, -1.0, NAN])[:, None].repeat(1, 3)
    labels[3, :2] = 0.0
    loss = loss_of(outputs, labels, uncertain=[2], **settings)
    loss.backward()
    assert torch.isfinite(loss)
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()


def test_halves_in_half_precision_are_computed_in_single() -> None:
    logits, labels = random_batch()
    assert loss_of(logits.half(), labels).dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_set_does_not_label_has_no_part_in_the_loss(kind: dict[str, Any]) -> None:
    """Two sets that label different findings: the loss is the sum of theirs, without a gradient elsewhere."""
    labels = pd.DataFrame([[1, NOT_ASKED], [0, NOT_ASKED], [NOT_ASKED, NAN], [NOT_ASKED, 1]], columns=FINDINGS[:2])
    masked = training_targets(labels, LabelSettings(), seed=0)
    np.testing.assert_array_equal(masked, [[1, NAN], [0, NAN], [NAN, 0], [NAN, 1]])
    logits = torch.tensor([[0.5, 9], [-1, -9], [7, 2], [-7, 0.25]], requires_grad=True)
    together = loss_of(logits, torch.from_numpy(masked), **kind)
    alone = [loss_of(logits[:2, :1], torch.from_numpy(masked[:2, :1]), **kind)]
    alone.append(loss_of(logits[2:, 1:], torch.from_numpy(masked[2:, 1:]), **kind))
    assert together.item() == pytest.approx(sum(part.item() * 2 for part in alone) / 8)
    together.backward()
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == [[True, False], [True, False], [False, True], [False, True]]
    np.testing.assert_allclose(positive_weights(masked, cap=10), [1, 1])

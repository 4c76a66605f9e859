"""Heads: each equals a slow form of its paper, a class and a cell at a time; none breaks on extreme inputs."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from stage1_classify.model.heads import POOLINGS, Head, pool_linear, pool_lse, pool_max, pool_pcam
from stage1_classify.settings.classifier import HeadSettings

KINDS = list(get_args(HeadSettings.model_fields["kind"].annotation))


def build_head(kind: str, num_features: int = 6, num_findings: int = 3, *, num_uncertain: int = 0) -> Head:
    """Weights of a size that makes the cells differ; lse with a gamma that is not the default."""
    torch.manual_seed(0)
    settings = HeadSettings(kind=kind, lse_gamma=2.0, attention_features=4)
    head = Head(num_features, num_findings, settings=settings, num_uncertain=num_uncertain)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head


def slow_logit(kind: str, cells: list[Tensor], weight: Tensor, bias: Tensor, energies: list[float]) -> float:
    """One class of one image from its cells' feature vectors; the pooled feature is classified where there is one."""
    scores = [float(weight @ cell + bias) for cell in cells]
    ps = [1 / (1 + math.exp(-score)) for score in scores]
    if kind == "max":
        return max(scores)
    if kind == "lse":
        return math.log(sum(math.exp(2.0 * score) for score in scores) / len(scores)) / 2.0
    if kind == "linear":
        probability = sum(p * p for p in ps) / sum(ps)
        return math.log(probability / (1 - probability))
    shares = {
        "average": [1.0] * len(cells),
        "exp": [math.exp(score) for score in scores],
        "pcam": ps,
        "attention": [math.exp(energy) for energy in energies],
    }[kind]
    pooled = sum(share / sum(shares) * cell for share, cell in zip(shares, cells, strict=True))
    return float(weight @ pooled + bias)


def slow_logits(kind: str, features: Tensor, head: Head, *, uncertain: bool = False) -> Tensor:
    """Logits of all classes, or of the uncertain ones, in float64."""
    layer = head.uncertain if uncertain else head.classifier
    first = head.classifier.out_channels if uncertain else 0
    rows = []
    for image in features.double():
        cells = [image[:, y, x] for y in range(image.shape[1]) for x in range(image.shape[2])]
        row = []
        for k in range(len(layer.weight)):
            energies = [0.0] * len(cells)
            if head.attention is not None:
                v, u = head.attention.gates.weight.flatten(1).double().chunk(2)
                w = head.attention.scores.weight[first + k].flatten().double()
                energies = [float(w @ (torch.tanh(v @ cell) * torch.sigmoid(u @ cell))) for cell in cells]
            weight, bias = layer.weight[k].flatten().double(), layer.bias[k].double()
            row.append(slow_logit(kind, cells, weight, bias, energies))
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def test_every_kind_of_the_settings_is_there() -> None:
    assert set(POOLINGS) == set(KINDS)
    assert len(KINDS) == 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_head_equals_the_slow_form_of_its_paper(kind: str, dtype: torch.dtype) -> None:
    head = build_head(kind, num_uncertain=2).to(dtype)
    features = torch.randn(2, 6, 3, 5).to(dtype)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    close = {"rtol": tolerance, "atol": tolerance}
    output = head(features)
    torch.testing.assert_close(output.logits.double(), slow_logits(kind, features, head), **close)
    torch.testing.assert_close(output.maps, head.classifier(features))
    uncertain = slow_logits(kind, features, head, uncertain=True)
    torch.testing.assert_close(head.uncertain_logits(features).double(), uncertain, **close)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_no_uncertain_class_has_no_logits(kind: str) -> None:
    features = torch.randn(2, 6, 3, 5)
    assert build_head(kind).uncertain_logits(features).shape == (2, 0)


@pytest.mark.parametrize("value", [-1.25, 0.0, 3.5])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_an_all_equal_map_gives_its_value(kind: str, value: float) -> None:
    head = build_head(kind)
    projection = head.project(torch.randn(2, 6, 4, 5))
    projection[:, :3] = value
    torch.testing.assert_close(head.pool(projection), torch.full((2, 3), value))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_logit_lies_between_the_lowest_and_the_highest_score(kind: str) -> None:
    head = build_head(kind)
    output = head(3 * torch.randn(16, 6, 3, 5))
    scores = output.maps.flatten(2)
    assert (output.logits >= scores.amin(-1) - 1e-5).all()
    assert (output.logits <= scores.amax(-1) + 1e-5).all()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_single_cell_is_its_own_logit(kind: str) -> None:
    head = build_head(kind)
    output = head(torch.randn(2, 6, 1, 1))
    torch.testing.assert_close(output.logits, output.maps[:, :, 0, 0])


def test_pooling_exact_values() -> None:
    maps = torch.tensor([[[[1.0, 2.0, 6.0]]]])
    heads = {kind: Head(1, 1, settings=HeadSettings(kind=kind)) for kind in ("average", "max", "exp")}
    assert heads["average"].pool(maps).item() == 3
    assert heads["max"].pool(maps).item() == 6
    total = math.exp(-5) + math.exp(-4) + 1
    expected = (math.exp(-5) + 2 * math.exp(-4) + 6) / total
    assert heads["exp"].pool(maps).item() == pytest.approx(expected, abs=1e-6)
    # p = 1/2 and 3/4: P = (1/4 + 9/16) / (5/4) = .65
    odds = torch.tensor([[[[0.0, math.log(3)]]]])
    assert pool_linear(odds).item() == pytest.approx(math.log(0.65 / 0.35), abs=1e-6)


def test_pcam_exact_values() -> None:
    one_hot = torch.full((1, 1, 16, 16), -5.0)
    one_hot[0, 0, 3, 4] = 5.0
    # sum p = sigmoid(5) + 255 sigmoid(-5) = 2.700; weight of the hot cell .36789
    assert pool_pcam(one_hot).item() == pytest.approx(-1.32107, abs=2e-5)
    one_hot[one_hot < 0] = -10.0
    assert pool_pcam(one_hot).item() == pytest.approx(4.82719, abs=2e-5)


def test_lse_gamma_leads_from_the_average_to_the_maximum() -> None:
    maps = torch.tensor([[[[1.0, 2.0, 6.0]]]])
    assert pool_lse(maps, gamma=1e-3).item() == pytest.approx(3, abs=0.01)
    assert pool_lse(maps, gamma=200.0).item() == pytest.approx(6, abs=0.01)
    by_settings = [Head(1, 1, settings=HeadSettings(kind="lse", lse_gamma=g)).pool(maps) for g in (0.5, 5.0)]
    assert by_settings[0] < by_settings[1]


def test_linear_stays_exact_where_probabilities_round_to_0_and_1() -> None:
    # far below 0, p = exp(s) and P = sum exp(2 s) / sum exp(s); far above 0 the same of 1 - p
    low = torch.tensor([[[[-200.0, -201.0]]]])
    expected = -200 + math.log((1 + math.exp(-2)) / (1 + math.exp(-1)))
    assert pool_linear(low).item() == pytest.approx(expected, abs=1e-4)
    # 1 - P = sum (1 - p) / n where p is near 1
    expected = 200 - math.log((1 + math.exp(-1)) / 2)
    assert pool_linear(-low).item() == pytest.approx(expected, abs=1e-4)


def test_max_shares_its_gradient_among_equals() -> None:
    maps = torch.tensor([[[[4.0, 1.0, 4.0]]]], requires_grad=True)
    pool_max(maps).sum().backward()
    assert maps.grad is not None
    assert maps.grad.flatten().tolist() == [0.5, 0.0, 0.5]


def test_attention_width_and_features_matter() -> None:
    head = build_head("attention")
    assert head.project(torch.randn(1, 6, 2, 3)).shape == (1, 3 + 2 * 4, 2, 3)
    features = torch.randn(1, 6, 3, 5)
    projection = head.project(features)
    before = head.pool(projection)
    projection[:, 3:, 0] += 1  # the gates alone
    assert not torch.allclose(head.pool(projection), before)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_projection_weight_is_what_a_channel_adds(kind: str) -> None:
    head = build_head(kind)
    features = torch.randn(2, 6, 3, 5)
    without = features.clone()
    without[:, 4] = 0
    column = head.projection_weight[:, 4][None, :, None, None]
    expected = head.project(features) - column * features[:, 4:5]
    torch.testing.assert_close(head.project(without), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_maps_far_from_zero_are_finite_with_gradients(kind: str, dtype: torch.dtype, sign: int) -> None:
    head = build_head(kind, num_findings=1)
    size = head.project(torch.zeros(1, 6, 1, 1)).shape[1]
    projection = torch.full((1, size, 3, 4), sign * 1e4, dtype=dtype)
    projection[:, :, 1, 2] = sign * 1.1e4
    projection.requires_grad_()
    logits = head.pool(projection)
    logits.sum().backward()
    assert logits.dtype == torch.float32
    assert abs(logits.item()) == pytest.approx(1e4, rel=0.11)
    assert projection.grad is not None
    assert projection.grad.isfinite().all()
    assert projection.grad[:, 0].sum().item() == pytest.approx(1, rel=0.01)  # all rules shift with the map


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("value", [-60000.0, 60000.0])
@pytest.mark.parametrize("kind", KINDS)
def test_float16_features_at_their_limit_are_finite_with_gradients(kind: str, value: float, autocast: bool) -> None:
    head = Head(6, 3, settings=HeadSettings(kind=kind), num_uncertain=1)
    features = torch.full((2, 6, 3, 5), value, dtype=torch.float16)
    features[:, :, 1, 2] = 1.0
    features.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        output = head(features)
        uncertain = head.uncertain_logits(features)
    (output.logits.sum() + uncertain.sum()).backward()
    for tensor in (output.logits, output.maps, uncertain):
        assert tensor.dtype == torch.float32
        assert tensor.isfinite().all()
    gradients = [features.grad, *(parameter.grad for parameter in head.parameters())]
    for gradient in gradients:
        assert gradient is not None
        assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_head_computes_in_float32_under_autocast(kind: str) -> None:
    head = build_head(kind, num_uncertain=1)
    features = torch.randn(1, 6, 3, 5, dtype=torch.bfloat16)
    expected = head(features.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, uncertain = head(features), head.uncertain_logits(features)
    assert output.logits.dtype == output.maps.dtype == uncertain.dtype == torch.float32
    torch.testing.assert_close(output.logits, expected.logits)
    torch.testing.assert_close(uncertain, head.uncertain_logits(features.float()))


def test_dropout_takes_whole_channels_and_only_in_training() -> None:
    head = Head(400, 1, settings=HeadSettings(kind="average", dropout=0.5))
    torch.nn.init.ones_(head.classifier.weight)
    features = torch.ones(1, 400, 3, 5)
    torch.manual_seed(0)
    maps = head(features).maps[0, 0]
    assert (maps == maps[0, 0]).all()  # a channel is in or out everywhere
    assert maps[0, 0].item() != 400
    assert maps[0, 0].item() == pytest.approx(400, rel=0.2)
    assert head.eval()(features).maps[0, 0, 0, 0].item() == 400

import pytest
import torch
from torch.nn import functional

from cxr.config import UserError
from stage1_classify.heads import Head, pool_average, pool_pcam


def slow_pcam(features: torch.Tensor, classifier: torch.nn.Conv2d) -> torch.Tensor:
    """PCAM as its paper writes it: a class at a time, weights from probabilities, pooled feature, classifier again."""
    logits = []
    for k in range(classifier.out_channels):
        weight, bias = classifier.weight[k : k + 1], classifier.bias[k : k + 1]
        scores = functional.conv2d(features, weight, bias)
        probability = torch.sigmoid(scores)
        share = probability / probability.sum((2, 3), keepdim=True)
        pooled = (share * features).sum((2, 3), keepdim=True)
        logits.append(functional.conv2d(pooled, weight, bias).flatten(1))
    return torch.cat(logits, 1)


def test_pcam_equals_the_slow_form_of_its_paper() -> None:
    torch.manual_seed(0)
    head = Head(6, 3, kind="pcam").double()
    torch.nn.init.normal_(head.classifier.weight)
    features = torch.randn(2, 6, 3, 5, dtype=torch.float64)
    expected = slow_pcam(features, head.classifier)
    torch.testing.assert_close(pool_pcam(head.classifier(features)).double(), expected, rtol=1e-5, atol=1e-5)


def test_pcam_exact_values() -> None:
    one_hot = torch.full((1, 1, 16, 16), -5.0)
    one_hot[0, 0, 3, 4] = 5.0
    # sum p = sigmoid(5) + 255 sigmoid(-5) = 2.700; weight of the hot cell .36789
    assert pool_pcam(one_hot).item() == pytest.approx(-1.32107, abs=2e-5)
    one_hot[one_hot < 0] = -10.0
    assert pool_pcam(one_hot).item() == pytest.approx(4.82719, abs=2e-5)


def test_pcam_of_a_constant_map_is_the_average() -> None:
    constant = torch.full((2, 3, 4, 5), -1.25)
    torch.testing.assert_close(pool_pcam(constant), pool_average(constant))


def test_average_exact_value() -> None:
    assert pool_average(torch.tensor([[[[1.0, 2.0, 6.0]]]])).item() == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_pcam_far_below_zero_is_finite_with_gradients(dtype: torch.dtype) -> None:
    maps = torch.full((1, 1, 3, 4), -2e4, dtype=dtype, requires_grad=True)
    logits = pool_pcam(maps)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()
    assert logits.item() == pytest.approx(-2e4, rel=0.01)


def test_head_computes_in_float32_under_autocast() -> None:
    head = Head(6, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = head(torch.randn(1, 6, 3, 5, dtype=torch.bfloat16))
    assert output.logits.dtype == output.maps.dtype == torch.float32
    assert output.maps.shape == (1, 2, 3, 5)


def test_unknown_head_is_named() -> None:
    with pytest.raises(UserError, match="'cam', expected one of pcam, average"):
        Head(6, 2, kind="cam")

"""The classifier: backbone and head together, and the sum over the views of a case."""

from pathlib import Path
from typing import get_args

import pytest
import torch

from stage1_classify.model.classifier import CaseForward, Classifier
from stage1_classify.settings.classifier import HeadSettings, Stage1Settings
from tests.stage1_classify.stage1_builders import FINDINGS, stage1_settings

KINDS = get_args(HeadSettings.model_fields["kind"].annotation)
SIZE_HW = (32, 48)


def build(tmp_path: Path, **changes: object) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(stage1_settings(tmp_path, **changes)).eval()
    for layer in (model.head.classifier, model.head.uncertain):
        if layer is not None:
            torch.nn.init.normal_(layer.weight)
            torch.nn.init.normal_(layer.bias)
    return model


def three_class(*findings: str) -> dict[str, object]:
    return {"uncertain_by_finding": dict.fromkeys(findings, "three_class")}


@torch.no_grad()
def test_forward_is_head_of_backbone(tmp_path: Path) -> None:
    model = build(tmp_path)
    images = torch.randn(2, 1, *SIZE_HW)
    torch.testing.assert_close(model(images), model.head(model.backbone(images)).logits)
    assert model(images).shape == (2, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter_through_every_head(tmp_path: Path, kind: str) -> None:
    model = build(tmp_path, head={"kind": kind, "attention_features": 8}, labels=three_class(FINDINGS[1])).train()
    CaseForward(model)(torch.randn(3, 1, *SIZE_HW), torch.tensor([0, 0, 1]), 2).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    for name, gradient in gradients.items():
        assert gradient is not None
        assert gradient.isfinite().all(), name
        assert gradient.abs().max() > 0, name


def test_settings_of_the_head_arrive(tmp_path: Path) -> None:
    model = build(tmp_path, head={"kind": "attention", "attention_features": 5, "dropout": 0.25})
    assert model.head.attention is not None
    assert model.head.attention.gates.out_channels == 10
    assert model.head.dropout.p == 0.25
    images = torch.randn(2, 1, *SIZE_HW)
    low, high = (build(tmp_path, head={"kind": "lse", "lse_gamma": gamma})(images).detach() for gamma in (0.1, 10.0))
    assert (low < high).all()


def test_uncertain_columns_follow_the_policies(tmp_path: Path) -> None:
    settings: list[tuple[dict[str, object], tuple[int, ...]]] = [
        ({}, ()),
        ({"uncertain": "zeros"}, ()),
        (three_class(FINDINGS[1]), (1,)),
        ({"uncertain": "three_class"}, (0, 1)),
        ({"uncertain": "three_class", "uncertain_by_finding": {FINDINGS[0]: "ones"}}, (1,)),
    ]
    for labels, columns in settings:
        model = build(tmp_path, labels=labels)
        assert model.uncertain_columns == columns
        assert model.head.uncertain_logits(torch.randn(1, model.backbone.num_features, 2, 3)).shape == (1, len(columns))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_case_s_outputs_are_exactly_the_sums_of_its_views_(tmp_path: Path, kind: str) -> None:
    model = build(tmp_path, head={"kind": kind}, labels=three_class(FINDINGS[1]))
    images = torch.randn(5, 1, *SIZE_HW)
    cases = torch.tensor([0, 0, 1, 2, 2])
    outputs = CaseForward(model)(images, cases, 3)
    assert outputs.shape == (3, 3)
    assert outputs.dtype == torch.float32
    features = model.backbone(images)
    each = torch.cat([model(images), model.head.uncertain_logits(features)], dim=1)
    expected = torch.stack([each[0] + each[1], each[2], each[3] + each[4]])
    assert torch.equal(outputs, expected)


@torch.no_grad()
def test_lateral_views_go_through_their_own_backbone(tmp_path: Path) -> None:
    model = build(tmp_path, views={"backbones": "by_view"})
    assert model.lateral_backbone is not None
    images, lateral = torch.randn(4, 1, *SIZE_HW), torch.tensor([False, True, True, False])
    frontal, other = model.backbone(images), model.lateral_backbone(images)
    assert not torch.allclose(frontal, other)
    expected = torch.where(lateral[:, None, None, None], other, frontal)
    torch.testing.assert_close(model.features(images, lateral), expected)
    torch.testing.assert_close(model(images, ~lateral | lateral), model.head(other).logits)
    torch.testing.assert_close(model(images, lateral & ~lateral), model.head(frontal).logits)
    outputs = CaseForward(model)(images, torch.tensor([0, 0, 1, 1]), 2, lateral)
    torch.testing.assert_close(outputs, model.head(expected).logits.reshape(2, 2, -1).sum(1))
    assert build(tmp_path).lateral_backbone is None


@torch.no_grad()
def test_images_of_other_cases_do_not_matter(tmp_path: Path) -> None:
    forward = CaseForward(build(tmp_path))
    images = torch.randn(5, 1, *SIZE_HW)
    cases = torch.tensor([0, 0, 1, 2, 2])
    before = forward(images, cases, 3)
    images[2] += 1
    after = forward(images, cases, 3)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], rtol=0, atol=1e-6)
    assert not torch.allclose(after[1], before[1])
    # and neither does the order in which images stand
    order = torch.tensor([4, 2, 0, 3, 1])
    torch.testing.assert_close(forward(images[order], cases[order], 3), after, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_without_uncertain_classes_single_images_are_their_cases(tmp_path: Path) -> None:
    model = build(tmp_path)
    images = torch.randn(3, 1, *SIZE_HW)
    assert torch.equal(CaseForward(model)(images, torch.arange(3), 3), model(images))
    assert CaseForward(model)(images[:1], torch.tensor([0]), 1).shape == (1, 2)


@torch.no_grad()
def test_views_are_added_in_float32_under_autocast(tmp_path: Path) -> None:
    forward = CaseForward(build(tmp_path))
    images, cases = torch.randn(4, 1, *SIZE_HW), torch.tensor([0, 0, 1, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = forward(images, cases, 2)
        each = forward.model(images)
    assert outputs.dtype == torch.float32
    assert torch.equal(outputs, torch.stack([each[0] + each[1], each[2] + each[3]]))
    assert (outputs != outputs.bfloat16().float()).any()


def test_case_forward_adds_no_state(tmp_path: Path) -> None:
    settings: Stage1Settings = stage1_settings(tmp_path)
    model = Classifier(settings)
    assert {name.removeprefix("model.") for name in CaseForward(model).state_dict()} == set(model.state_dict())

"""The maps of a pyramid equal those of the classifier's stages; networks without such maps are refused."""

import pytest
import torch

from cxr.config import UserError
from stage1_classify.model.backbone import Backbone
from stage1_classify.model.pyramid import load_pyramid, make_pyramid, stages_by_stride
from stage1_classify.model.stages import stage_maps
from stage1_classify.settings.classifier import BackboneSettings

SIZE_HW = (64, 96)

CASES = [
    ("test_efficientnet", None, {2: 0, 4: 1, 8: 2, 16: 3, 32: 4}),
    ("test_efficientnet", 3, {2: 0, 4: 1, 8: 2, 16: 3}),
    ("test_convnext", None, {4: 0, 8: 1, 16: 2, 32: 3}),
    ("test_convnext", -2, {4: 0, 8: 1, 16: 2}),
    ("test_resnet", None, {2: 0, 4: 1, 8: 2, 16: 3, 32: 4}),
    ("test_resnet", 3, {2: 0, 4: 1, 8: 2, 16: 3}),
]


@pytest.mark.parametrize(("name", "stage", "expected"), CASES)
def test_maps_are_those_of_the_classifiers_stages(name: str, stage: int | None, expected: dict[int, int]) -> None:
    settings = BackboneSettings(name=name, feature_stage=stage)
    assert stages_by_stride(settings) == expected
    torch.manual_seed(0)
    backbone = Backbone(settings, SIZE_HW).eval()
    strides = [stride for stride in (8, 16, 32) if stride in expected]
    pyramid = make_pyramid(name, in_channels=1, stages=[expected[stride] for stride in strides]).eval()
    load_pyramid(pyramid, backbone.network.state_dict())
    images = torch.rand(2, 1, *SIZE_HW)
    with torch.no_grad():
        wanted, found = stage_maps(backbone, images), pyramid(images)
    assert pyramid.feature_info.reduction() == strides
    for stride, channels, own in zip(strides, pyramid.feature_info.channels(), found, strict=True):
        assert own.shape == (2, channels, SIZE_HW[0] // stride, SIZE_HW[1] // stride)
        assert any(own.shape == one.shape and torch.allclose(own, one, atol=1e-6) for one in wanted)


@pytest.mark.parametrize(("name", "reason"), [("test_vit", "one size only"), ("no_such_net", "no model 'no_such_net'")])
def test_a_network_without_maps_is_refused(name: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        stages_by_stride(BackboneSettings(name=name))


def test_weights_of_another_network_do_not_fit() -> None:
    other = Backbone(BackboneSettings(name="test_convnext"), SIZE_HW).network.state_dict()
    with pytest.raises(KeyError):
        load_pyramid(make_pyramid("test_resnet", in_channels=1, stages=[2, 3]), other)

"""The maps of a backbone's stages are those that timm's own feature extractor gives, with the same weights."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from stage1_classify.model.backbone import Backbone
from stage1_classify.model.stages import stage_maps
from stage1_classify.settings.classifier import BackboneSettings

SIZE_HW = (64, 96)


def maps_of(name: str, **options: Any) -> tuple[Backbone, Tensor, list[Tensor]]:
    torch.manual_seed(0)
    backbone = Backbone(BackboneSettings(name=name, **options), SIZE_HW).eval()
    images = torch.randn(2, backbone.settings.in_channels, *SIZE_HW)
    with torch.no_grad():
        return backbone, images, stage_maps(backbone, images)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_maps_are_those_of_timms_extractor(name: str) -> None:
    backbone, images, maps = maps_of(name)
    extractor = timm.create_model(name, in_chans=1, features_only=True).eval()
    state = backbone.network.state_dict()
    flattened = {key.replace(".", "_", 1): value for key, value in state.items()}  # as convnext's extractor has them
    assert not extractor.load_state_dict(state | flattened, strict=False).missing_keys
    with torch.no_grad():
        expected = extractor(images)
        last = backbone(images)
    assert len(maps) == len(expected) + 1
    for found, wanted in zip(maps, expected, strict=False):
        assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.equal(maps[-1], last)


@pytest.mark.parametrize(
    ("name", "options", "sides"),
    [
        ("test_efficientnet", {"feature_stage": 3}, [32, 16, 8, 4, 4]),
        ("test_resnet", {"output_stride": 16}, [32, 16, 8, 4, 4, 4]),
        ("test_mambaout", {"feature_stage": 1, "in_channels": 3}, [16, 8, 8]),
        ("test_vit", {"in_channels": 3}, [4]),
    ],
)
def test_maps_of_cut_dilated_and_token_networks(name: str, options: dict[str, Any], sides: list[int]) -> None:
    backbone, images, maps = maps_of(name, **options)
    assert [one.shape[2] for one in maps] == sides
    assert all(one.shape[3] * 2 == one.shape[2] * 3 for one in maps)
    assert maps[-1].shape[1] == backbone.num_features
    with torch.no_grad():
        assert torch.equal(maps[-1], backbone(images))
    assert not any(module._forward_hooks for module in backbone.modules())

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from stage1_builders import stage1_settings

from cxr.config import UserError
from stage1_classify.config import Stage1Settings
from stage1_classify.model import Classifier

FAMILIES = [
    ("densenet121", {}, (2, 3)),
    ("convnext_atto", {}, (2, 3)),
    ("efficientnet_b0", {}, (2, 3)),
    ("resnet18", {}, (2, 3)),
    ("resnet18", {"output_stride": 16}, (4, 6)),
    ("resnet18", {"feature_stage": 2}, (8, 12)),
    ("test_vit", {}, (4, 6)),
    ("swin_tiny_patch4_window7_224", {}, (2, 3)),
    ("swin_tiny_patch4_window7_224", {"feature_stage": 1}, (8, 12)),
]


def settings_for(tmp_path: Path, **backbone: object) -> Stage1Settings:
    backbone.setdefault("feature_stage", None)
    return stage1_settings(tmp_path, backbone=backbone, input={"size_hw": [64, 96]})


@pytest.mark.parametrize(("name", "options", "map_hw"), FAMILIES)
def test_every_family_gives_maps_logits_and_gradients(
    tmp_path: Path, name: str, options: dict[str, int], map_hw: tuple[int, int]
) -> None:
    settings = settings_for(tmp_path, name=name, **options)
    model = Classifier(settings)
    output = model.head(model.backbone(torch.randn(2, 1, 64, 96)))
    assert output.maps.shape == (2, 2, *map_hw)
    assert output.logits.shape == (2, 2)
    output.logits.sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_forward_is_head_of_backbone(tmp_path: Path) -> None:
    model = Classifier(settings_for(tmp_path, name="test_convnext")).eval()
    images = torch.randn(2, 1, 32, 64)
    torch.testing.assert_close(model(images), model.head(model.backbone(images)).logits)


def test_weights_come_from_a_local_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = timm.create_model("test_convnext", in_chans=3)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    settings = settings_for(
        tmp_path, name="test_convnext", in_channels=3, weights=str(tmp_path / "w.safetensors")
    )
    loaded = Classifier(settings).backbone.network.state_dict()
    for name, tensor in source.state_dict().items():
        if not name.startswith("head.fc"):
            torch.testing.assert_close(loaded[name], tensor)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ({"name": "resnet81"}, "no model 'resnet81'.*nearest"),
        ({"name": "resnet18", "weights": "nowhere.pth"}, "no file nowhere.pth"),
        ({"name": "densenet121", "output_stride": 8}, "cannot make 'densenet121'"),
        ({"name": "resnet18", "feature_stage": 9}, "cannot make 'resnet18'"),
    ],
)
def test_impossible_backbones_are_clear_errors(
    tmp_path: Path, backbone: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Classifier(settings_for(tmp_path, **backbone))

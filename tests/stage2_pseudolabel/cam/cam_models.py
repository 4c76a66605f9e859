"""Small classifiers with random weights for the tests of the CAM engine: any backbone, any head."""

from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from stage1_classify.model.backbone import Backbone
from stage1_classify.model.heads import Head
from stage1_classify.settings.classifier import BackboneSettings, HeadSettings

# Narrow and shallow relatives of six families: features that end in a ReLU and of either sign, maps with channels first
# and last, tokens. Name -> the timm model and what is other about it.
_NARROW: dict[str, tuple[str, dict[str, Any]]] = {
    "narrow_resnet": ("resnet10t", {"channels": (8, 16, 16, 24)}),
    "narrow_densenet": ("densenet121", {"growth_rate": 8, "block_config": (2, 2, 2, 2)}),
    "narrow_convnext": ("convnext_atto", {"dims": (16, 24, 24, 32), "depths": (1, 1, 2, 1)}),
    "narrow_efficientnet": ("test_efficientnet", {}),
    "narrow_vit": (
        "vit_tiny_patch16_224",
        {"img_size": (96, 160), "dynamic_img_size": True, "embed_dim": 24, "depth": 3, "num_heads": 2},
    ),
    "narrow_swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": (96, 160), "embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)},
    ),
}


def _register(name: str, base: str, options: Mapping[str, Any]) -> None:
    """Make the narrow network a timm model, so that Backbone builds it as it builds any other."""

    def entrypoint(pretrained: bool = False, **given: Any) -> nn.Module:
        return timm.create_model(base, pretrained=pretrained, **{**options, **given})

    entrypoint.__name__ = name
    timm.models.register_model(entrypoint)


for _name, (_base, _options) in _NARROW.items():
    _register(_name, _base, _options)


class TinyClassifier(nn.Module):
    """Any backbone with a real head: the interface of `Classifier` without its settings."""

    def __init__(self, backbone: nn.Module, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images)).logits


def build_classifier(
    name: str = "narrow_resnet",
    *,
    kind: str = "pcam",
    num_classes: int = 3,
    seed: int = 0,
    feature_stage: int | None = None,
    input_hw: tuple[int, int] = (96, 160),
) -> TinyClassifier:
    """A narrow backbone for one-channel images, its classifier weights large enough for logits of both signs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = Backbone(BackboneSettings(name=name, feature_stage=feature_stage), input_hw)
        head = Head(backbone.num_features, num_classes, settings=HeadSettings(kind=kind, attention_features=16))
        nn.init.normal_(head.classifier.weight, std=0.5)
        nn.init.normal_(head.classifier.bias)
    return TinyClassifier(backbone, head).eval()


def build_linear_classifier(features: Tensor, *, kind: str = "average", num_classes: int = 2) -> TinyClassifier:
    """A model whose features are given: it ignores its images but for their number."""
    head = Head(features.shape[1], num_classes, settings=HeadSettings(kind=kind))
    nn.init.constant_(head.classifier.weight, 1.0)
    return TinyClassifier(GivenFeatures(features), head).eval()


class GivenFeatures(nn.Module):
    """Gives the first B of its features for B images, plus 0 times the images (so that gradients exist)."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.register_buffer("features", features)

    def forward(self, images: Tensor) -> Tensor:
        rows = torch.arange(len(images)) % len(self.features)
        return self.features[rows] + 0 * images.mean((1, 2, 3))[:, None, None, None]


def num_hooks(model: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in model.modules()
    )


def random_images(count: int = 2, *, size_hw: tuple[int, int] = (96, 160), seed: int = 1) -> Tensor:
    """Normal noise with a bright patch, (B, 1, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, *size_hw, generator=generator)
    images[:, :, size_hw[0] // 4 : size_hw[0] // 2, size_hw[1] // 2 :] += 2.0
    return images

"""Small classifiers with random weights for the tests of the CAM engine: any backbone, any head."""

from collections.abc import Iterator

import pytest
import timm
import torch
from torch import Tensor, nn

from stage1_classify.config import HeadSettings
from stage1_classify.network.heads import Head

# Narrow relatives of two families: features that end in a ReLU, and features of either sign.
TINY_BACKBONES = {
    "resnet10t": {"channels": (8, 16, 16, 24)},
    "convnext_atto": {"dims": (16, 24, 24, 32), "depths": (1, 1, 2, 1)},
}


class TinyClassifier(nn.Module):
    """Any backbone with a real head: the interface of stage1_classify.network.model.Classifier without its settings."""

    def __init__(self, backbone: nn.Module, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images)).logits


def build_classifier(
    name: str = "resnet10t", *, kind: str = "pcam", num_classes: int = 3, seed: int = 0
) -> TinyClassifier:
    """A narrow timm backbone for one-channel images, its classifier weights large enough for logits of both signs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        options = TINY_BACKBONES.get(name, {})
        backbone = timm.create_model(
            name, in_chans=1, num_classes=0, global_pool="", pretrained=False, **options
        )
        head = Head(backbone.num_features, num_classes, settings=HeadSettings(kind=kind))
        nn.init.normal_(head.classifier.weight, std=0.5)
        nn.init.normal_(head.classifier.bias)
    return TinyClassifier(backbone, head).eval()


def build_linear_classifier(
    features: Tensor, *, kind: str = "average", num_classes: int = 2
) -> TinyClassifier:
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


def random_images(count: int = 2, *, size_hw: tuple[int, int] = (96, 160), seed: int = 1) -> Tensor:
    """Normal noise with a bright patch, (B, 1, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, *size_hw, generator=generator)
    images[:, :, size_hw[0] // 4 : size_hw[0] // 2, size_hw[1] // 2 :] += 2.0
    return images


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks run fastest on one thread, by far when other work shares the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

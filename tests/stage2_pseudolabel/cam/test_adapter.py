"""Classifiers of timm and torchvision: the same logits, and pytorch-grad-cam's maps to 1e-4 of their maximum."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import pytorch_grad_cam
import timm
import torch
import torchvision
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig

from cxr.config import UserError
from stage2_pseudolabel.cam import as_classifier, compute_maps
from stage2_pseudolabel.cam.methods import CAM_METHODS
from tests.stage2_pseudolabel.cam.cam_models import num_hooks

SIZE_HW = (96, 160)
ORACLES = {
    "gradcam": pytorch_grad_cam.GradCAM,
    "gradcamelementwise": pytorch_grad_cam.GradCAMElementWise,
    "xgradcam": pytorch_grad_cam.XGradCAM,
    "layercam": pytorch_grad_cam.LayerCAM,
    "gradcamplusplus": pytorch_grad_cam.GradCAMPlusPlus,
}


def patches(tokens: Tensor) -> Tensor:
    return tokens[:, 1:].reshape(len(tokens), SIZE_HW[0] // 16, SIZE_HW[1] // 16, -1).permute(0, 3, 1, 2)


def channels_first(maps: Tensor) -> Tensor:
    return maps.permute(0, 3, 1, 2)


def of_timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    return partial(timm.create_model, name, num_classes=3, **options)


def convnext() -> nn.Module:
    blocks = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, 16, 1), CNBlockConfig(16, None, 1)]
    return torchvision.models.ConvNeXt(blocks, num_classes=3)


def resnet() -> nn.Module:
    return torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=3)


def densenet() -> nn.Module:
    return torchvision.models.DenseNet(4, (1, 1, 1, 1), 8, num_classes=3)


# Name -> how to build it, the layer that pytorch-grad-cam is given, and how it brings the layer's output to a map.
MODELS: dict[str, tuple[Callable[[], nn.Module], str, Callable[[Tensor], Tensor] | None]] = {
    "timm resnet": (of_timm("narrow_resnet"), "layer4", None),
    "timm densenet": (of_timm("narrow_densenet"), "features", None),
    "timm convnext": (of_timm("narrow_convnext"), "stages", None),
    "timm efficientnet": (of_timm("narrow_efficientnet"), "bn2", None),
    "timm swin": (of_timm("narrow_swin"), "norm", channels_first),
    "timm vit, class token": (of_timm("narrow_vit"), "blocks.1", patches),
    "timm vit, average": (of_timm("narrow_vit", global_pool="avg", fc_norm=False), "norm", patches),
    "torchvision resnet": (resnet, "layer4", None),
    "torchvision convnext": (convnext, "features", None),
    "torchvision densenet": (densenet, "features", None),
    "torchvision mobilenet": (
        partial(torchvision.models.mobilenet_v3_small, num_classes=3, width_mult=0.25),
        "features",
        None,
    ),
}
CLASS_TOKEN = "timm vit, class token"


def case(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = MODELS[name][0]().eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)  # maps well above the rounding of float32
    return model, torch.randn(2, 3, *SIZE_HW)


def oracle_maps(kind: Any, name: str, model: nn.Module, images: Tensor) -> Tensor:
    class Raw(kind):
        def get_cam_image(self, *args: Any, **kwargs: Any) -> Any:
            self.raw = super().get_cam_image(*args, **kwargs)
            return self.raw

    _, layer, reshape = MODELS[name]
    explainer = Raw(model, [model.get_submodule(layer)], reshape_transform=reshape)
    maps = []
    for k in range(3):
        explainer(images, [ClassifierOutputTarget(k)] * len(images))
        maps.append(torch.from_numpy(np.float32(explainer.raw)))
    explainer.activations_and_grads.release()
    return torch.stack(maps, dim=1).relu()


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_the_model_s_and_maps_the_library_s(name: str) -> None:
    model, images = case(name)
    result = compute_maps(model, images, list(ORACLES))
    torch.testing.assert_close(result.logits, model(images).detach(), atol=1e-4, rtol=1e-4)
    for method, kind in ORACLES.items():
        theirs = oracle_maps(kind, name, model, images)
        if name.startswith("torchvision densenet"):
            continue  # its ReLU after the last layer is a function, so no layer of the model gives our features
        assert result.maps[method].shape == theirs.shape, method
        assert theirs.max() > 0
        assert float((result.maps[method] - theirs).abs().max() / theirs.max()) < 1e-4, method


@pytest.mark.parametrize("name", MODELS)
def test_all_methods_that_fit_give_maps_and_leave_the_model_as_it_was(name: str) -> None:
    model, images = case(name)
    model.train()
    left_out = {
        CLASS_TOKEN: ("ablationcam", "scorecam", "scorecambudget"),  # they do not fit
        "torchvision resnet": ("scorecam",),  # its 512 channels take a pass each; the narrow ResNet shows the same
    }.get(name, ())
    maps = compute_maps(model, images, [method for method in CAM_METHODS if method not in left_out]).maps
    assert all(stack.shape[:2] == (2, 3) and stack.isfinite().all() for stack in maps.values())
    assert num_hooks(model) == 0
    assert all(module.training for module in model.modules())


def test_a_split_classifier_and_a_project_s_own_are_given_back() -> None:
    split = as_classifier(case("timm resnet")[0])
    assert as_classifier(split) is split


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), "no global average pooling with a linear layer"),
        (timm.create_model("narrow_resnet", num_classes=0), "num_classes is 0"),
    ],
)
def test_a_model_that_does_not_fit_is_one_clear_error(model: nn.Module, reason: str) -> None:
    with pytest.raises(UserError, match="does not fit") as caught:
        as_classifier(model)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "num_tokens"),
    [
        ("mixer_s32_224", {}, 49),  # no patch embedding with a size
        ("cait_xxs24_224", {"depth": 1}, 196),  # the class token comes after the blocks
        ("xcit_nano_12_p16_224", {"depth": 1}, 196),
    ],
)
def test_tokens_that_form_no_map_are_one_clear_error(name: str, options: dict[str, Any], num_tokens: int) -> None:
    model = timm.create_model(name, num_classes=2, **options)
    with pytest.raises(UserError, match=f"fit: its {num_tokens} tokens are not its prefix tokens and one"):
        compute_maps(model, torch.randn(1, 3, 224, 224), ["gradcam"])


def test_methods_that_change_single_channels_are_refused_for_a_class_token() -> None:
    model, images = case(CLASS_TOKEN)
    with pytest.raises(UserError, match="scorecam"):
        compute_maps(model, images, ["gradcam", "scorecam"])

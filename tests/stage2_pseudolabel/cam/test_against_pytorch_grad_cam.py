"""pytorch-grad-cam is the oracle: maps before its min-max agree to 1e-4 of the map's maximum, class by class.

AblationCAM divides small differences of logits, which the library rounds to float32: its forwards run in float64 here,
because on wide networks (ResNet-18, 512 channels) its float32 ones are off by 4e-4 of the maximum, and ours by 6e-5.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.ablation_layer import AblationLayerVit
from pytorch_grad_cam.feature_factorization.deep_feature_factorization import dff as factorise
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from timm.layers import BatchNormAct2d
from torch import Tensor

from stage2_pseudolabel.cam.engine import compute_maps
from stage2_pseudolabel.cam.methods import CAM_METHODS
from stage2_pseudolabel.settings.cam import CamOptions
from tests.stage2_pseudolabel.cam.cam_models import TinyClassifier, build_classifier, random_images

ORACLES = {
    "gradcam": pytorch_grad_cam.GradCAM,
    "hirescam": pytorch_grad_cam.HiResCAM,
    "gradcamelementwise": pytorch_grad_cam.GradCAMElementWise,
    "gradcamplusplus": pytorch_grad_cam.GradCAMPlusPlus,
    "xgradcam": pytorch_grad_cam.XGradCAM,
    "layercam": pytorch_grad_cam.LayerCAM,
    "eigencam": pytorch_grad_cam.EigenCAM,
    "eigengradcam": pytorch_grad_cam.EigenGradCAM,
    "ablationcam": pytorch_grad_cam.AblationCAM,
    "scorecam": pytorch_grad_cam.ScoreCAM,
}
SIGN_IS_FREE = {"eigencam", "eigengradcam"}
BACKBONES = ("narrow_densenet", "narrow_convnext", "narrow_resnet", "narrow_efficientnet", "narrow_vit")
# Modules of earlier stages, named by hand, with their places as our engine counts them back.
EARLIER = [
    ("narrow_densenet", "features.denseblock3", -2),
    ("narrow_densenet", "features.denseblock1", -4),
    ("narrow_convnext", "stages.2", -2),
    ("narrow_resnet", "layer3", -2),
    ("narrow_resnet", "layer1", -4),
    ("narrow_efficientnet", "blocks.3", -2),
    ("narrow_vit", "blocks.1", -2),
    ("narrow_vit", "blocks.0", -3),
    ("narrow_swin", "layers.2", -2),
]
# On features below zero the library's ablation is a quirk that is off by default (see ablation.py).
OPTIONS = CamOptions(ablation_value="library")
IMAGES_HW = (64, 96)


def tokens_to_map(tokens: Tensor) -> Tensor:
    """The library's `reshape_transform` for a ViT of 16 px patches: (B, 1 + N, C) -> (B, C, h, w)."""
    height, width = IMAGES_HW[0] // 16, IMAGES_HW[1] // 16
    return tokens[:, 1:].reshape(len(tokens), height, width, -1).permute(0, 3, 1, 2)


def channels_first(maps: Tensor) -> Tensor:
    return maps.permute(0, 3, 1, 2)


RESHAPE: dict[str, Callable[[Tensor], Tensor]] = {"narrow_vit": tokens_to_map, "narrow_swin": channels_first}


@cache
def our_case(backbone: str, kind: str) -> tuple[TinyClassifier, Tensor, dict[str, Tensor]]:
    """Model, images and our maps of all methods that the library has."""
    model = build_classifier(backbone, kind=kind, input_hw=IMAGES_HW)
    images = random_images(size_hw=IMAGES_HW)
    return model, images, compute_maps(model, images, list(ORACLES), options=OPTIONS).maps


def oracle_maps(
    name: str, model: TinyClassifier, images: Tensor, *, backbone: str = "", module: str | None = None
) -> Tensor:
    """The library's maps of every class before ReLU and scaling, (B, K, h, w), at a module of the network.

    Without a module at the end of the backbone; of a ViT that is its last norm, whose tokens the library reshapes.
    """

    class Raw(ORACLES[name]):
        def get_cam_image(self, *args: Any, **kwargs: Any) -> Any:
            self.raw = super().get_cam_image(*args, **kwargs)
            return self.raw

    module = "norm" if module is None and backbone == "narrow_vit" else module
    options: dict[str, Any] = {"reshape_transform": RESHAPE.get(backbone)} if module else {}
    if name == "ablationcam":
        model, images = deepcopy(model).double(), images.double()
        options |= {"ablation_layer": AblationLayerVit()} if module else {}
    layer = model.backbone.network.get_submodule(module) if module else model.backbone
    maps = []
    for k in range(model.head.classifier.out_channels):
        explainer = Raw(model, [layer], **options)
        explainer(images, [ClassifierOutputTarget(k)] * len(images))
        explainer.activations_and_grads.release()
        maps.append(torch.from_numpy(np.float32(explainer.raw)))
    return torch.stack(maps, dim=1)


def worst_error(ours: Tensor, theirs: Tensor) -> float:
    """Greatest difference of a map relative to that map's maximum (of the batch's where a map is all zero)."""
    peaks = theirs.amax((-2, -1), keepdim=True)
    assert peaks.max() > 0, "the oracle's maps are empty: the case says nothing"
    scale = torch.where(peaks > 0, peaks, theirs.max())
    return float(((ours - theirs).abs() / scale).max())


@pytest.mark.parametrize("kind", ["pcam", "average", "attention"])
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", ORACLES)
def test_maps_agree_with_library(name, backbone, kind):
    model, images, maps = our_case(backbone, kind)
    ours, theirs = maps[name], oracle_maps(name, model, images, backbone=backbone)
    if name in SIGN_IS_FREE:
        flipped = (ours - theirs.relu()).abs().amax((-2, -1)) > (ours - (-theirs).relu()).abs().amax((-2, -1))
        theirs = torch.where(flipped[..., None, None], -theirs, theirs)
    assert ours.shape == (2, 3, 4, 6) if backbone == "narrow_vit" else (2, 3, 2, 3)
    assert worst_error(ours, theirs.relu()) < 1e-4


def test_the_library_has_all_methods_but_ours_and_those_of_other_tests():
    others = {"pcam", "dff", "fullgrad", "layercamfusion", "scorecambudget"}
    assert set(CAM_METHODS) - others == set(ORACLES)


def test_ablation_of_relu_features_by_zero_is_the_library_s():
    model, images, _ = our_case("narrow_resnet", "pcam")
    zeroed = compute_maps(model, images, ["ablationcam"]).maps["ablationcam"]
    assert worst_error(zeroed, oracle_maps("ablationcam", model, images).relu()) < 1e-4


@pytest.mark.parametrize(("backbone", "module", "place"), EARLIER)
def test_layercam_of_an_earlier_stage_is_the_library_s(backbone, module, place):
    input_hw = (96, 160) if backbone == "narrow_swin" else IMAGES_HW
    model = build_classifier(backbone, kind="pcam", input_hw=input_hw)
    images = random_images(size_hw=input_hw)
    options = CamOptions(layercam_stages=[place])
    ours = compute_maps(model, images, ["layercamfusion"], options=options).maps["layercamfusion"]
    theirs = oracle_maps("layercam", model, images, backbone=backbone, module=module).relu()
    assert ours.shape == theirs.shape
    assert worst_error(ours, theirs) < 1e-4


def with_plain_norms(model: torch.nn.Module) -> torch.nn.Module:
    """A copy whose BatchNormAct2d are a BatchNorm2d and an activation, which the library sees."""
    copy = deepcopy(model)
    for name, module in list(copy.named_modules()):
        if isinstance(module, BatchNormAct2d):
            norm = torch.nn.BatchNorm2d(module.num_features, module.eps).eval()
            norm.load_state_dict(module.state_dict())
            parent = copy.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], torch.nn.Sequential(norm, deepcopy(module.act)))
    return copy


@pytest.mark.parametrize("backbone", BACKBONES)
def test_fullgrad_is_the_library_s_before_its_last_scaling(backbone):
    model, images, _ = our_case(backbone, "pcam")
    options = CamOptions(fullgrad_size="image")
    ours = compute_maps(model, images, ["fullgrad"], options=options).maps["fullgrad"]

    class Raw(pytorch_grad_cam.FullGrad):
        def aggregate_multi_layers(self, layers: Any) -> Any:
            return layers.sum(axis=1)

    explainer = Raw(with_plain_norms(model), [])
    for k in range(3):
        theirs = torch.from_numpy(np.float32(explainer(images, [ClassifierOutputTarget(k)] * 2)))
        assert worst_error(ours[:, k], theirs) < 1e-4
    explainer.activations_and_grads.release()


@pytest.mark.parametrize("components", [1, 5])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_dff_is_the_library_s_concepts_weighted_by_their_probabilities(backbone, components):
    model, images, _ = our_case(backbone, "pcam")
    options = CamOptions(dff_components=components)
    ours = compute_maps(model, images, ["dff"], options=options).maps["dff"]
    with torch.no_grad():
        features = model.backbone(images)
        for stack, maps in zip(features, ours, strict=True):
            concepts, heat = factorise(stack[None].numpy().copy(), n_components=components)
            heat = torch.from_numpy(heat[0])
            peaks, offset = heat.amax((1, 2)), stack.amin((1, 2))
            embeddings = (torch.from_numpy(concepts).T - offset) * peaks[:, None] + offset
            scores = model.head(embeddings[..., None, None]).logits.sigmoid()
            theirs = torch.einsum("nk,nhw->khw", scores, heat / peaks[:, None, None])
            assert worst_error(maps[None], theirs[None]) < 1e-4

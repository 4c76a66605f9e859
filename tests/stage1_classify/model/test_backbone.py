"""Backbones: every family gives a map of features at a size that is not square, and takes weights from a file."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from cxr.config import UserError
from stage1_classify.model.backbone import Backbone
from stage1_classify.settings.classifier import BackboneSettings

SIZE_HW = (64, 96)

FAMILIES = [
    ("densenet121", {}, (2, 3)),
    ("densenet121", {"feature_stage": 2}, (8, 12)),
    ("convnext_atto.d2_in1k", {"in_channels": 3}, (2, 3)),
    ("convnext_atto", {"output_stride": 16, "drop_path_rate": 0.1}, (4, 6)),
    ("convnext_atto", {"output_stride": 8}, (8, 12)),
    ("efficientnet_b0", {"drop_path_rate": 0.1}, (2, 3)),
    ("efficientnet_b0", {"output_stride": 16}, (4, 6)),
    ("efficientnet_b0.ra_in1k", {"feature_stage": 1}, (16, 24)),
    ("efficientnet_b0", {"feature_stage": 3, "output_stride": 8}, (8, 12)),
    ("resnet18", {"in_channels": 3}, (2, 3)),
    ("resnet18", {"output_stride": 16}, (4, 6)),
    ("resnet18", {"output_stride": 8}, (8, 12)),
    ("resnet18", {"feature_stage": 2}, (8, 12)),
    ("vit_tiny_patch16_224", {"drop_path_rate": 0.1}, (4, 6)),
    ("vit_tiny_patch16_224", {"feature_stage": 2, "in_channels": 3}, (4, 6)),
    ("vit_small_patch14_reg4_dinov2", {}, (4, 6)),
    ("deit_tiny_patch16_224", {"in_channels": 3}, (4, 6)),
    ("deit_tiny_distilled_patch16_224", {"drop_path_rate": 0.1}, (4, 6)),
    ("deit_tiny_distilled_patch16_224", {"feature_stage": 1}, (4, 6)),
    ("swin_tiny_patch4_window7_224", {"drop_path_rate": 0.1}, (2, 3)),
    ("swin_tiny_patch4_window7_224", {"feature_stage": 1, "in_channels": 3}, (8, 12)),
]


def build(name: str, input_hw: tuple[int, int] = SIZE_HW, **options: Any) -> Backbone:
    torch.manual_seed(0)
    return Backbone(BackboneSettings(name=name, **options), input_hw)


@pytest.mark.parametrize(("name", "options", "map_hw"), FAMILIES)
def test_every_family_gives_a_map_and_gradients_everywhere(
    name: str, options: dict[str, Any], map_hw: tuple[int, int]
) -> None:
    input_hw = (56, 84) if "patch14" in name else SIZE_HW
    backbone = build(name, input_hw, **options)
    assert backbone.training
    features = backbone(torch.randn(2, backbone.settings.in_channels, *input_hw))
    assert features.shape == (2, backbone.num_features, *map_hw)
    assert features.isfinite().all()
    features.square().sum().backward()
    # in distributed training a parameter without a gradient stops everything
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in backbone.parameters() if p.grad is not None)
    first = next(p for n, p in backbone.named_parameters() if p.ndim == 4)
    assert first.shape[1] == backbone.settings.in_channels
    assert first.grad is not None
    assert first.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
@torch.no_grad()
def test_tokens_stand_where_their_patches_are(name: str) -> None:
    """Without attention between patches, a cell depends on its own patch alone."""
    backbone = build(name).eval()
    for block in backbone.network.blocks:
        block.attn.proj.weight.zero_()
        block.attn.proj.bias.zero_()
    images = torch.randn(1, 1, *SIZE_HW)
    changed = images.clone()
    changed[:, :, 16:32, 64:80] += 1  # row 1, column 4
    moved = (backbone(changed) - backbone(images)).abs().amax(1)[0]
    assert moved[1, 4] > 0
    moved[1, 4] = 0
    assert moved.max() == 0


@torch.no_grad()
def test_a_pyramid_stage_of_swin_stands_where_its_patches_are() -> None:
    backbone = build("swin_tiny_patch4_window7_224", feature_stage=0).eval()
    for block in backbone.network.modules():
        if hasattr(block, "relative_position_bias_table"):
            block.proj.weight.zero_()
            block.proj.bias.zero_()
    images = torch.randn(1, 1, *SIZE_HW)
    changed = images.clone()
    changed[:, :, 8:12, 40:44] += 1  # row 2, column 10 of 4 x 4 patches
    moved = (backbone(changed) - backbone(images)).abs().amax(1)[0]
    assert moved.shape == (16, 24)
    assert (moved > 0).nonzero().tolist() == [[2, 10]]


@torch.no_grad()
def test_drop_path_drops_in_training_alone() -> None:
    images = torch.randn(2, 1, *SIZE_HW)
    for rate, equal in ((0.9, False), (0.0, True)):
        backbone = build("convnext_atto", drop_path_rate=rate)
        torch.nn.init.ones_(backbone.network.stages[0].blocks[0].gamma)
        assert torch.equal(backbone(images), backbone(images)) is equal
        backbone.eval()
        assert torch.equal(backbone(images), backbone(images))


def test_the_check_of_the_map_leaves_no_trace() -> None:
    """It uses no random numbers, changes no statistics and leaves no tensor on the meta device."""
    torch.manual_seed(0)
    backbone = Backbone(BackboneSettings(name="resnet18"), SIZE_HW)
    after = torch.rand(1)
    torch.manual_seed(0)
    network = timm.create_model("resnet18", in_chans=1, num_classes=0, global_pool="")
    assert torch.equal(after, torch.rand(1))
    state = backbone.network.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet81"}, r"no model 'resnet81'.*nearest"),
        ({"name": "resnet18", "feature_stage": 9}, r"'resnet18' has no stage 9"),
        ({"name": "densenet121", "drop_path_rate": 0.1}, r"cannot make 'densenet121'.*drop_path_rate"),
        ({"name": "levit_128s"}, r"'levit_128s' gives no map.*another network"),
        ({"name": "resnet18", "weights": "nowhere.pth"}, r"no file nowhere\.pth"),
        ({"name": "vit_tiny_patch16_224", "size": (64, 100)}, r"got \(64, 100\).*multiples of \(16, 16\)"),
        ({"name": "convnext_atto_rms", "pretrained": True}, r"cannot make 'convnext_atto_rms'.*pretrained"),
    ],
)
def test_impossible_backbones_are_clear_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(options.pop("name"), options.pop("size", (32, 64)), **options)


@pytest.mark.parametrize(
    "name", ["densenet121", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224"]
)  # fmt: skip
@pytest.mark.parametrize("stage", [None, 1])
def test_output_stride_names_the_families_that_have_it(name: str, stage: int | None) -> None:
    with pytest.raises(UserError, match=r"output_stride.*ResNet, ConvNeXt and EfficientNet"):
        build(name, output_stride=16, feature_stage=stage)


def test_weights_that_cannot_be_fetched_are_the_users_business(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "/nowhere")
    with pytest.raises(UserError, match=r"backbone\.pretrained: could not fetch.*backbone\.weights"):
        build("test_convnext", pretrained=True)


def save_source(path: Path, name: str, **options: Any) -> dict[str, torch.Tensor]:
    """A network as timm saves it, with its classifier; all values differ from any initialisation."""
    network = timm.create_model(name, **options)
    state = {
        n: t + 0.01 * torch.randn(t.shape) if t.is_floating_point() else t for n, t in network.state_dict().items()
    }
    if path.suffix == ".safetensors":
        save_file({n: t.contiguous() for n, t in state.items()}, path)
    else:
        torch.save(state, path)
    return state


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize("num_classes", [1000, 5])
@pytest.mark.parametrize(
    ("name", "classifier"), [("test_convnext", "head.fc"), ("test_resnet", "fc"), ("test_efficientnet", "classifier")]
)
def test_weights_come_from_a_local_file(
    tmp_path: Path, name: str, classifier: str, num_classes: int, ending: str
) -> None:
    """All of them, exactly; the classifier in the file is passed over, whatever its classes."""
    path = tmp_path / f"w.{ending}"
    state = save_source(path, name, num_classes=num_classes)
    loaded = build(name, in_channels=3, weights=path).network.state_dict()
    for key, tensor in loaded.items():
        torch.testing.assert_close(tensor, state[key], rtol=0, atol=0)
    assert set(state) - set(loaded) == {f"{classifier}.weight", f"{classifier}.bias"}


@torch.no_grad()
def test_three_channel_weights_fit_one_channel_networks(tmp_path: Path) -> None:
    """timm sums the first convolution over its channels: a grey picture gives what three equal channels gave."""
    save_source(tmp_path / "w.pth", "test_convnext")
    three = build("test_convnext", in_channels=3, weights=tmp_path / "w.pth").eval()
    one = build("test_convnext", in_channels=1, weights=tmp_path / "w.pth").eval()
    images = torch.randn(2, 1, *SIZE_HW)
    torch.testing.assert_close(one(images), three(images.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["densenet121", "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224"])
@pytest.mark.parametrize("stage", [None, 1])
def test_files_of_the_other_families_are_read_too(tmp_path: Path, name: str, stage: int | None) -> None:
    """Whole networks and pyramids; position tables of square pictures are resampled to the size at hand."""
    state = save_source(tmp_path / "w.safetensors", name)
    backbone = build(name, weights=tmp_path / "w.safetensors", feature_stage=stage)
    values = {tensor.sum().item() for tensor in state.values()}
    checked = 0
    for key, tensor in backbone.network.state_dict().items():
        resampled = ("pos_embed", "relative_position_bias_table", "patch_embed", "conv0")
        if not any(part in key for part in resampled):
            assert tensor.sum().item() in values, key
            checked += 1
    assert checked > 20


def test_position_tables_are_resampled_and_not_left_random(tmp_path: Path) -> None:
    state = timm.create_model("test_vit").state_dict()
    state["pos_embed"][:] = torch.arange(64.0)
    torch.save(state, tmp_path / "w.pth")
    table = build("test_vit", weights=tmp_path / "w.pth").network.pos_embed
    assert table.shape == (1, 1 + 4 * 6, 64)
    torch.testing.assert_close(table.detach(), torch.arange(64.0).expand_as(table), rtol=1e-4, atol=1e-4)


def test_weights_of_a_pyramid_are_those_of_the_file(tmp_path: Path) -> None:
    state = save_source(tmp_path / "w.pth", "test_efficientnet")
    backbone = build("test_efficientnet", in_channels=3, weights=tmp_path / "w.pth", feature_stage=1)
    loaded = backbone.network.state_dict()
    assert loaded
    for key, tensor in loaded.items():
        torch.testing.assert_close(tensor, state[key.removeprefix("model.")], rtol=0, atol=0)


@pytest.mark.parametrize("stage", [None, 1])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("test_resnet", r"not a file of 'resnet18'.*missing.*unknown"),
        ("resnet34", r"not a file of 'resnet18'.*none missing, \d+ \(layer1\.2"),
        ("resnet10t", r"not a file of 'resnet18'"),
        ("seresnet18", r"none missing, \d+ \(layer1\.0\.se\."),
    ],
)
def test_a_file_of_another_network_is_refused(tmp_path: Path, other: str, message: str, stage: int | None) -> None:
    save_source(tmp_path / "w.pth", other)
    with pytest.raises(UserError, match=message):
        build("resnet18", weights=tmp_path / "w.pth", feature_stage=stage)


def test_a_file_of_the_same_names_and_other_shapes_is_refused(tmp_path: Path) -> None:
    save_source(tmp_path / "w.pth", "vit_small_patch16_224")
    with pytest.raises(UserError, match=r"cannot make 'vit_tiny_patch16_224'.*size mismatch"):
        build("vit_tiny_patch16_224", weights=tmp_path / "w.pth")


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize("kept", [0, 100, 50_000])
def test_a_damaged_file_is_refused(tmp_path: Path, ending: str, kept: int) -> None:
    path = tmp_path / f"w.{ending}"
    save_source(path, "test_convnext")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=rf"w\.{ending} cannot be read"):
        build("test_convnext", weights=path)


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"list\.pth cannot be read"):
        build("test_convnext", weights=tmp_path / "list.pth")
    torch.save({"epoch": 1}, tmp_path / "state.pth")
    with pytest.raises(UserError, match=r"state\.pth is not a file of 'test_convnext'"):
        build("test_convnext", weights=tmp_path / "state.pth")


@pytest.mark.parametrize("stage", [17, -9])
@pytest.mark.parametrize("name", ["test_convnext", "test_resnet", "test_vit", "test_efficientnet"])
def test_a_stage_that_is_not_there_is_named(name: str, stage: int) -> None:
    with pytest.raises(UserError, match=rf"backbone\.feature_stage: '{name}' has no stage {stage}"):
        build(name, feature_stage=stage)

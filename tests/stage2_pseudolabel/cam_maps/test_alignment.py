"""How far a map lies beside its picture, against what follows from a network's layers by hand."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from stage1_classify.model.backbone import Backbone
from stage1_classify.settings.classifier import BackboneSettings
from stage2_pseudolabel.cam_maps.alignment import map_shift
from tests.stage2_pseudolabel.cam_maps.teacher_builders import member, teacher


def shift_of(backbone: nn.Module, input_hw: tuple[int, int]) -> tuple[float, float]:
    return map_shift(SimpleNamespace(backbone=backbone), input_hw)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        # Each layer with a stride looks around stride * i: a cell's centre is (32 - 1) / 2 behind.
        ("resnet18", {}, 15.5),
        ("resnet18", {"feature_stage": 2}, 3.5),
        ("resnet18", {"output_stride": 8}, 3.5),
        ("efficientnet_b0", {}, 15.5),
        # TF's padding puts the odd pixel last: around stride * i + 31, as far ahead.
        ("tf_efficientnet_b0", {}, -15.5),
        # As ResNet up to stride 4 (1.5); then means of 2 x 2, which look at their own square.
        ("densenet121", {}, 1.5),
        # Patches that do not overlap.
        ("convnext_atto", {}, 0.0),
        ("vit_tiny_patch16_224", {}, 0.0),
        # As ResNet, but half of each sum, the shortcut, is a mean of 2 x 2 before: 1, 2 and 4 less.
        ("resnet10t", {"feature_stage": 2}, 2.5),
        ("resnet10t", {}, 8.5),
        # Overlapping stem: 3 x 3 of stride 2, twice, padded by 1; then patches.
        ("convnext_atto_ols", {}, 1.5),
        # ReLU6, which cuts off great values.
        ("mobilenetv2_100", {}, 15.5),
    ],
)
def test_the_shift_of_a_network_is_that_of_its_layers(
    name: str, options: dict[str, int], expected: float
) -> None:
    backbone = Backbone(BackboneSettings(name=name, **options), (128, 192)).eval()
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    assert shift_of(backbone, (128, 192)) == (expected, expected)
    assert all(torch.equal(before[key], tensor) for key, tensor in backbone.state_dict().items())


def test_trained_weights_are_passed_over() -> None:
    backbone = Backbone(BackboneSettings(name="resnet10t"), (64, 96)).eval()
    for parameter in backbone.parameters():
        nn.init.normal_(parameter)
    assert shift_of(backbone, (64, 96)) == (8.5, 8.5)


def test_rows_and_columns_differ_where_layers_do() -> None:
    """Rows: 3 cells a step of 4, padded by 1: around 4 i, centre 1.5 behind. Columns: 2 of 2, no padding: 0."""
    layer = nn.Conv2d(1, 3, kernel_size=(3, 2), stride=(4, 2), padding=(1, 0))
    assert shift_of(nn.Sequential(layer), (32, 20)) == (1.5, 0.0)


def test_borders_do_not_count() -> None:
    """Wide kernels see mostly padding: 9 of stride 1, twice, over 8 x 12 pixels."""
    layers = [nn.Conv2d(1, 4, 9, padding=4), nn.ReLU(), nn.Conv2d(4, 2, 9, padding="same")]
    assert shift_of(nn.Sequential(*layers), (8, 12)) == (0.0, 0.0)


def test_pools_groups_dilation_and_odd_sizes() -> None:
    """Around 2 i, then 2 (2 i + .5): cells of 4 pixels look around pixel 4 i + 1, .5 before their centre 4 i + 1.5.

    13 rows give 7, then 4 (the last mean reaches beyond): a cell is 13 / 4 high and its places 4 apart, so that
    the mean over cells is 6.5 - (2 + 6 + 10 + 14 - 4 * .5) / 4 = 6.5 - 7.5. 16 columns: 16 / 4 = 4, so .5.
    """
    layers = [
        nn.Conv2d(1, 4, 3, padding=2, dilation=2, bias=False),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(4, 8, 1, groups=2),
        nn.AvgPool2d(2, ceil_mode=True),
    ]
    assert shift_of(nn.Sequential(*layers), (13, 16)) == (-1.0, 0.5)


def test_where_all_cells_look_everywhere_nothing_is_moved() -> None:
    class Everywhere(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 2, 3, stride=2, padding=1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features = self.layer(images)
            return features.mean((2, 3), keepdim=True).expand_as(features)

    assert shift_of(Everywhere(), (16, 24)) == (0.0, 0.0)


def test_a_network_that_takes_no_such_input_is_not_moved(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "raybox"):
        assert shift_of(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), (16, 24)) == (0.0, 0.0)
    assert "where cells look cannot be told" in caplog.messages[0]


def test_a_teacher_has_the_mean_shift_of_its_voices_in_pixels_of_its_input(tmp_path: Path) -> None:
    """resnet10t at stride 8: 2.5. At twice the size 2.5 pixels are 1.25; test_convnext's patches: 0.

    With dilation the shortcuts' means of 2 x 2 look half a cell of 8 ahead, twice, which counts half: 2.5 - 2 * 2.
    """
    strided, patches = member(tmp_path, seed=0, name="resnet10t", feature_stage=2), member(tmp_path, seed=0)
    assert teacher(tmp_path, strided).shift_hw() == (2.5, 2.5)
    assert teacher(tmp_path, strided, scales=[1.0, 2.0]).shift_hw() == (1.875, 1.875)
    assert teacher(tmp_path, strided, patches).shift_hw() == (1.25, 1.25)
    deep = member(tmp_path, seed=0, name="resnet10t", feature_stage=None)
    assert teacher(tmp_path, deep, output_stride=8).shift_hw() == (-1.5, -1.5)


@pytest.mark.parametrize(
    ("flips", "right"), [(("none", "horizontal"), 0.0), (("horizontal",), -2.5)], ids=["both", "only"]
)
def test_a_flipped_forms_map_lies_to_the_other_side(
    tmp_path: Path, flips: tuple[str, ...], right: float
) -> None:
    strided = member(tmp_path, seed=0, name="resnet10t", feature_stage=2)
    assert teacher(tmp_path, strided, flips=flips).shift_hw() == (2.5, right)

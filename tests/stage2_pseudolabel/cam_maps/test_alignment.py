"""How far a map is shifted against its image, against what follows from a network's layers by hand."""

from pathlib import Path

import pytest

from stage1_classify.model.backbone import Backbone
from stage1_classify.settings.classifier import BackboneSettings
from stage2_pseudolabel.cam_maps.alignment import map_shift
from tests.stage2_pseudolabel.cam_maps.teacher_builders import member, teacher


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        # Each layer with a stride looks around stride * i: a cell's centre is (32 - 1) / 2 behind.
        ("resnet18", {}, 15.5),
        ("resnet18", {"feature_stage": 2}, 3.5),
        ("resnet18", {"output_stride": 8}, 3.5),
        ("efficientnet_b0", {}, 15.5),
        ("efficientnet_b0", {"feature_stage": 2}, 3.5),
        ("mobilenetv2_100", {}, 15.5),
        # As ResNet up to stride 4 (1.5); then means of 2 x 2, which look at their own square.
        ("densenet121", {}, 1.5),
        # Patches that do not overlap.
        ("convnext_atto", {}, 0.0),
        ("vit_tiny_patch16_224", {}, 0.0),
        # Overlapping stem: 3 x 3 of stride 2, twice, padded by 1; then patches.
        ("convnext_atto_ols", {}, 1.5),
    ],
)
def test_the_shift_of_a_network_is_that_of_its_layers(name: str, options: dict[str, int], expected: float) -> None:
    assert map_shift(Backbone(BackboneSettings(name=name, **options), (128, 192))) == expected


def test_a_teacher_has_the_mean_shift_of_its_members_in_pixels_of_its_input(tmp_path: Path) -> None:
    """resnet10t at stride 8: 3.5. At twice the size 3.5 pixels are 1.75; test_convnext's patches: 0."""
    strided, patches = member(tmp_path, seed=0, name="resnet10t", feature_stage=2), member(tmp_path, seed=0)
    assert teacher(tmp_path, strided).shift_hw() == (3.5, 3.5)
    assert teacher(tmp_path, strided, scales=[1.0, 2.0]).shift_hw() == (2.625, 2.625)
    assert teacher(tmp_path, strided, patches).shift_hw() == (1.75, 1.75)


@pytest.mark.parametrize(
    ("flips", "right"), [(("none", "horizontal"), 0.0), (("horizontal",), -3.5)], ids=["both", "only"]
)
def test_the_map_of_a_flipped_image_is_shifted_to_the_other_side(
    tmp_path: Path, flips: tuple[str, ...], right: float
) -> None:
    strided = member(tmp_path, seed=0, name="resnet10t", feature_stage=2)
    assert teacher(tmp_path, strided, flips=flips).shift_hw() == (3.5, right)

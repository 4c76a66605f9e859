"""A teacher makes maps as one classifier: of all its networks, at all sizes, a flipped picture's map flipped back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from cxr.config import UserError
from cxr.imaging.pictures import Pictures
from stage1_classify.model.probabilities import sigmoid
from stage2_pseudolabel.cam.engine import compute_maps
from stage2_pseudolabel.cam_maps.processes import make_processes
from stage2_pseudolabel.cam_maps.store import split_maps
from stage2_pseudolabel.cam_maps.teacher import mean_maps
from stage2_pseudolabel.evaluation.timing import measure_methods
from stage2_pseudolabel.settings.pseudolabel import TeacherSettings
from tests.stage2_pseudolabel.cam_maps.teacher_builders import METHODS, member, pictures_of, teacher


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    return pictures_of(tmp_path, num_images=6)[1]


def bilinear(maps: torch.Tensor, size_hw: tuple[int, int]) -> torch.Tensor:
    return functional.interpolate(maps, size_hw, mode="bilinear", align_corners=False)


def test_one_network_gives_its_own_maps(tmp_path: Path, pictures: Pictures) -> None:
    alone = member(tmp_path, seed=0)
    images = pictures.batch(range(6), 1)
    own = compute_maps(alone.model, images, METHODS)
    found = teacher(tmp_path, alone).maps([images], METHODS)
    for method in METHODS:
        torch.testing.assert_close(found.maps[method], own.maps[method], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.logits[0], own.logits, rtol=1e-4, atol=1e-6)


def test_maps_of_an_ensemble_are_the_mean_of_its_members(tmp_path: Path, pictures: Pictures) -> None:
    """The second network takes three channels; the probabilities follow `combine` (the minimum), not the mean."""
    members = member(tmp_path, seed=0), member(tmp_path, seed=1, channels=3)
    both = teacher(tmp_path, *members)
    inputs = both.inputs(pictures, range(6))
    assert [batch.shape[1] for batch in inputs] == [1, 3]
    own = [
        compute_maps(m.model, batch, METHODS, options=both.options) for m, batch in zip(members, inputs, strict=True)
    ]
    found = both.maps(inputs, METHODS)
    for method in METHODS:
        assert not torch.equal(own[0].maps[method], own[1].maps[method])
        expected = (own[0].maps[method] + own[1].maps[method]) / 2
        torch.testing.assert_close(found.maps[method], expected, rtol=0, atol=0)
    torch.testing.assert_close(found.logits, torch.stack([own[0].logits, own[1].logits]), rtol=0, atol=0)
    kept = split_maps(both, pictures, METHODS, folder=tmp_path / "maps", name="t", processes=make_processes())
    expected = np.minimum(*(sigmoid(result.logits.numpy()) for result in own))
    np.testing.assert_allclose(kept.probabilities, expected, rtol=1e-5)


def test_each_member_view_is_divided_by_its_scale(tmp_path: Path, pictures: Pictures) -> None:
    both = teacher(tmp_path, member(tmp_path, seed=0), member(tmp_path, seed=1))
    inputs = both.inputs(pictures, range(2))
    (first, second), _ = both.each_member_view(inputs, METHODS)
    found = both.maps(inputs, METHODS, scales={"gradcam": [1.0, 4.0], "pcam": [1.0, 1.0]}).maps
    expected = (first["gradcam"] + second["gradcam"] / 4) / 2
    torch.testing.assert_close(found["gradcam"], expected, rtol=0, atol=0)
    torch.testing.assert_close(found["pcam"], (first["pcam"] + second["pcam"]) / 2, rtol=0, atol=0)


def test_the_map_of_a_flipped_picture_is_flipped_back(tmp_path: Path, pictures: Pictures) -> None:
    alone = member(tmp_path, seed=0)
    images = pictures.batch(range(6), 1)
    plain, mirrored = (compute_maps(alone.model, form, METHODS) for form in (images, images.flip(-1)))
    only = teacher(tmp_path, alone, flips=("horizontal",)).maps([images], METHODS)
    both = teacher(tmp_path, alone, flips=("none", "horizontal")).maps([images], METHODS)
    for method in METHODS:
        back = mirrored.maps[method].flip(-1)
        assert (back - plain.maps[method]).abs().max() > 1e-4, "the flip must matter, or this says nothing"
        torch.testing.assert_close(only.maps[method], back, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(both.maps[method], (plain.maps[method] + back) / 2, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(both.logits[0], (plain.logits + mirrored.logits) / 2, rtol=1e-4, atol=1e-6)


def test_mean_maps_exact_value() -> None:
    """A 1 x 2 map of 0 and 4 is 0 1 3 4 on four columns, so the cells keep their place; then halved with zeros."""
    coarse, fine = torch.tensor([[[[0.0, 4.0]]]]), torch.zeros(1, 1, 2, 4)
    assert mean_maps([coarse]).tolist() == coarse.tolist()
    assert mean_maps([coarse, fine]).tolist() == [[[[0.0, 0.5, 1.5, 2.0]] * 2]]


def test_coarser_members_are_brought_to_the_largest_grid(tmp_path: Path, pictures: Pictures) -> None:
    members = member(tmp_path, seed=0, feature_stage=2), member(tmp_path, seed=1)
    both = teacher(tmp_path, *members)
    inputs = both.inputs(pictures, range(6))
    coarse, fine = (compute_maps(m.model, inputs[0], ["gradcam"]).maps["gradcam"] for m in members)
    assert coarse.shape[-2:] != fine.shape[-2:]
    found = both.maps(inputs, ["gradcam"]).maps["gradcam"]
    torch.testing.assert_close(found, (bilinear(coarse, fine.shape[-2:]) + fine) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scales", [[1.0, 2.0], [2.0]])
def test_sizes_are_averaged_and_logits_are_of_the_trained_one(
    tmp_path: Path, pictures: Pictures, scales: list[float]
) -> None:
    """32 x 48 at scale 2 is 64 x 96; flips and sizes go together."""
    alone = member(tmp_path, seed=0)
    images = pictures.batch(range(3), 1)
    forms = [images, images.flip(-1)]
    own = [compute_maps(alone.model, form, METHODS) for form in forms]
    large = [compute_maps(alone.model, bilinear(form, (64, 96)), METHODS) for form in forms]
    found = teacher(tmp_path, alone, flips=("none", "horizontal"), scales=scales).maps([images], METHODS)
    for method in METHODS:
        at_own, at_large = ((a.maps[method] + b.maps[method].flip(-1)) / 2 for a, b in (own, large))
        assert at_large.shape[-2:] == (2 * at_own.shape[-2], 2 * at_own.shape[-1])
        raised = bilinear(at_own, at_large.shape[-2:])
        expected = (raised + at_large) / 2 if 1.0 in scales else at_large
        torch.testing.assert_close(found.maps[method], expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.logits[0], (own[0].logits + own[1].logits) / 2, rtol=1e-4, atol=1e-6)


def test_sides_are_rounded_to_whole_strides_but_the_own_size_is_kept(tmp_path: Path) -> None:
    """1.6 x (32, 48) = (51.2, 76.8); 48 itself is no multiple of 32."""
    patient = member(tmp_path, seed=0)
    sizes = [view.size_hw for view in teacher(tmp_path, patient, scales=[1.0, 1.6, 0.2]).member_views]
    assert sizes == [(32, 48), (64, 64), (32, 32)]


@pytest.mark.parametrize("scale", [0.0, -1.5])
def test_sizes_are_above_zero(scale: float) -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        TeacherSettings(scales=[1.0, scale])


def test_scales_that_give_one_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        teacher(tmp_path, member(tmp_path, seed=0), scales=[2.0, 2.01])
    said = "teacher.scales: [2.0, 2.01] of pictures of (32, 48) give sizes [(64, 96), (64, 96)]"
    assert error.value.problems[0].startswith(said)


def test_a_network_of_one_size_says_so(tmp_path: Path) -> None:
    token = member(tmp_path, seed=0, name="vit_tiny_patch16_224", feature_stage=None)
    with pytest.raises(
        UserError, match=r"teacher\.scales: 'vit_tiny_patch16_224' accepts pictures of \(32, 48\), not of \(64, 96\)"
    ):
        teacher(tmp_path, token, scales=[1.0, 2.0])


def test_output_stride_makes_finer_maps_with_the_same_weights(tmp_path: Path, pictures: Pictures) -> None:
    """resnet10t: stride 32 gives 1 x 2 cells of 32 x 48 pixels, stride 8 gives 4 x 6; probabilities stay."""
    trained = member(tmp_path, seed=0, name="resnet10t", feature_stage=None)
    images = pictures.batch(range(3), 1)
    flips = ("none", "horizontal")
    own = teacher(tmp_path, trained, flips=flips).maps([images], METHODS)
    finer = teacher(tmp_path, trained, flips=flips, output_stride=8)
    found = finer.maps([images], METHODS)
    assert [result.maps["pcam"].shape for result in (own, found)] == [(3, 2, 1, 2), (3, 2, 4, 6)]
    torch.testing.assert_close(found.logits, own.logits, rtol=1e-4, atol=1e-6)
    theirs = finer.member_views[0].network.state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in trained.model.state_dict().items())
    again = teacher(tmp_path, trained).maps([images], METHODS)
    assert again.maps["pcam"].shape == (3, 2, 1, 2), "the trained network was changed"


@pytest.mark.parametrize(
    ("backbone", "stride", "facts"),
    [
        ({"name": "densenet121", "feature_stage": None}, 8, ["densenet121"]),
        ({"name": "resnet10t", "feature_stage": 2}, 16, ["resnet10t", "got 16", "(4, 6)"]),
    ],
    ids=["none", "no change"],
)
def test_output_stride_that_cannot_be_had_is_refused(
    tmp_path: Path, backbone: dict[str, object], stride: int, facts: list[str]
) -> None:
    trained = member(tmp_path, seed=0, **backbone)
    with pytest.raises(UserError) as error:
        teacher(tmp_path, trained, output_stride=stride)
    message = error.value.problems[0]
    assert message.startswith("teacher.output_stride: ")
    assert all(fact in message for fact in facts), message


def test_timing_is_of_the_whole_ensemble(tmp_path: Path, pictures: Pictures) -> None:
    members = member(tmp_path, seed=0), member(tmp_path, seed=1, channels=3)
    seen: list[tuple[int, ...]] = []
    for m in members:
        m.model.backbone.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    figures = measure_methods(teacher(tmp_path, *members), pictures, ["pcam"], num_images=3)
    assert seen == [(1, 1, 32, 48), (1, 3, 32, 48), *[(3, 1, 32, 48), (3, 3, 32, 48)] * 3]
    assert figures["ms_per_image/pcam"] > 0

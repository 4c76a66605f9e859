"""An ensemble makes maps as one classifier: the mean of its networks', a flipped picture's map flipped back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stage1_builders import patch_folder, stage1_settings
from torch.nn import functional

from stage1_classify.inputs.pictures import Pictures
from stage1_classify.judging.probabilities import Probabilities, sigmoid, uncalibrated
from stage1_classify.labelling.hierarchy import Hierarchy
from stage1_classify.loading import Member, Trained
from stage1_classify.network.model import Classifier
from stage2_pseudolabel.cam.engine import compute_maps
from stage2_pseudolabel.cam.options import CamOptions
from stage2_pseudolabel.maps import Teacher, mean_maps, split_maps
from stage2_pseudolabel.timing import measure_methods

METHODS = ["gradcam", "pcam"]
PLAIN = Probabilities(Hierarchy((-1, -1)), uncalibrated(2))


def member(root: Path, *, seed: int, channels: int = 1, stage: int = 1) -> Member:
    settings = stage1_settings(root, backbone={"in_channels": channels, "feature_stage": stage})
    torch.manual_seed(seed)
    model = Classifier(settings).eval()
    torch.nn.init.normal_(model.head.classifier.weight)
    return Member(model, PLAIN, settings.input, channels)


def teacher(root: Path, *members: Member, flips: tuple[str, ...] = ("none",)) -> Teacher:
    trained = Trained(stage1_settings(root), members, "minimum", flips, uncalibrated(2))
    return Teacher(trained, CamOptions(image_batch=4))


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    settings = stage1_settings(patch_folder(tmp_path, num_images=6))
    return Pictures(settings.data.read(), settings.input)


def test_one_network_gives_its_own_maps(tmp_path: Path, pictures: Pictures) -> None:
    alone = member(tmp_path, seed=0)
    own = compute_maps(alone.model, pictures.batch(range(6), 1), METHODS)
    found = split_maps(teacher(tmp_path, alone), pictures, METHODS, folder=tmp_path / "maps", name="t")
    for method in METHODS:
        np.testing.assert_allclose(found.maps[method], own.maps[method].numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.probabilities, sigmoid(own.logits.numpy()), rtol=1e-5)


def test_maps_of_an_ensemble_are_the_mean_of_its_members(tmp_path: Path, pictures: Pictures) -> None:
    """The second network takes three channels; the probabilities follow `combine` (the minimum), not the mean."""
    members = member(tmp_path, seed=0), member(tmp_path, seed=1, channels=3)
    both = teacher(tmp_path, *members)
    inputs = both.inputs(pictures, range(6))
    assert [batch.shape[1] for batch in inputs] == [1, 3]
    own = [
        compute_maps(m.model, batch, METHODS, options=both.options)
        for m, batch in zip(members, inputs, strict=True)
    ]
    found = both.maps(inputs, METHODS)
    for method in METHODS:
        assert not torch.equal(own[0].maps[method], own[1].maps[method])
        expected = (own[0].maps[method] + own[1].maps[method]) / 2
        torch.testing.assert_close(found.maps[method], expected, rtol=0, atol=0)
    torch.testing.assert_close(found.logits, torch.stack([own[0].logits, own[1].logits]), rtol=0, atol=0)
    kept = split_maps(both, pictures, METHODS, folder=tmp_path / "maps", name="t")
    expected = np.minimum(*(sigmoid(result.logits.numpy()) for result in own))
    np.testing.assert_allclose(kept.probabilities, expected, rtol=1e-5)


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
    members = member(tmp_path, seed=0, stage=2), member(tmp_path, seed=1, stage=1)
    both = teacher(tmp_path, *members)
    inputs = both.inputs(pictures, range(6))
    coarse, fine = (compute_maps(m.model, inputs[0], ["gradcam"]).maps["gradcam"] for m in members)
    assert coarse.shape[-2:] != fine.shape[-2:]
    raised = functional.interpolate(coarse, fine.shape[-2:], mode="bilinear", align_corners=False)
    found = both.maps(inputs, ["gradcam"]).maps["gradcam"]
    torch.testing.assert_close(found, (raised + fine) / 2, rtol=1e-4, atol=1e-6)


def test_parts_are_found_again_and_hold_the_logits_of_each_member(tmp_path: Path, pictures: Pictures) -> None:
    both = teacher(tmp_path, member(tmp_path, seed=0), member(tmp_path, seed=1))
    first = split_maps(both, pictures, METHODS, folder=tmp_path / "maps", name="t")
    files = sorted((tmp_path / "maps").iterdir())
    assert [np.load(file)["member_logits"].shape for file in files] == [(2, 4, 2), (2, 2, 2)]
    stamps = [file.stat().st_mtime_ns for file in files]
    files[1].write_bytes(files[1].read_bytes()[:200])
    again = split_maps(both, pictures, METHODS, folder=tmp_path / "maps", name="t")
    assert files[0].stat().st_mtime_ns == stamps[0]
    np.testing.assert_array_equal(again.probabilities, first.probabilities)
    np.testing.assert_array_equal(again.maps["pcam"], first.maps["pcam"])


def test_timing_is_of_the_whole_ensemble(
    tmp_path: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = member(tmp_path, seed=0), member(tmp_path, seed=1, channels=3)
    seen: list[tuple[int, ...]] = []
    for m in members:
        m.model.backbone.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    figures = measure_methods(teacher(tmp_path, *members), pictures, ["pcam"], num_images=3)
    assert seen == [(1, 1, 32, 48), (1, 3, 32, 48), (3, 1, 32, 48), (3, 3, 32, 48)]
    assert figures["ms_per_image/pcam"] > 0

"""The classifier sees what it saw in its training, and its features land on the detector's grid, standardised."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cxr.config import parse_settings
from cxr.imaging.equalise import equalised
from cxr.imaging.geometry import Resize
from cxr.imaging.network_input import NetImage
from cxr.imaging.pictures import input_of
from cxr.runs.run_folder import start_run
from eval.classification.calibration import Calibration
from stage1_classify.model.loading import Member, first_member
from stage1_classify.model.probabilities import save_calibration
from stage1_classify.model.stages import stage_maps
from stage1_classify.settings.classifier import EnsembleSettings
from stage3_detect.distillation.teacher import Teacher, deepest_map, on_grid
from tests.stage3_detect.serving.chain_builders import CURVES, make_classifier_run

CPU = torch.device("cpu")


def member_of(folder: Path, *, size_hw: tuple[int, int], **changes: Any) -> Member:
    """An untrained network with maps of strides 4 and 8."""
    given = {"keep_aspect": False, "cache_dir": None, **changes.pop("input", {})}
    return first_member(make_classifier_run(folder, input={"size_hw": list(size_hw), **given}, **changes))


def levels_of(count: int, frame_hw: tuple[int, int]) -> list[NetImage]:
    rng = np.random.default_rng(4)
    blocks = rng.integers(0, 256, (count, frame_hw[0] // 8, frame_hw[1] // 8), dtype=np.uint8)
    return list(blocks.repeat(8, axis=1).repeat(8, axis=2))


def as_batch(levels: list[NetImage]) -> Tensor:
    return torch.from_numpy(np.stack(levels))[:, None].float() / 255


def seen_maps(member: Member, levels: list[NetImage]) -> list[Tensor]:
    """The stages' maps of pictures that have the classifier's size already, by the code of its training."""
    inputs = [input_of(equalised(one, member.input), member.input, member.num_channels) for one in levels]
    with torch.no_grad():
        return stage_maps(member.model.backbone, torch.stack(inputs))


def standardised(features: Tensor) -> Tensor:
    mean = features.double().mean((0, 2, 3), keepdim=True)
    std = features.double().var((0, 2, 3), correction=0, keepdim=True).sqrt()
    return ((features - mean) / std).float()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"input": {"clahe_clip": 2.0}},
        {"input": {"channels": "clahe3", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}, "in_channels": 3},
        {"input": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}, "in_channels": 3},
    ],
    ids=["grey", "clahe", "clahe3", "grey_of_three_channels"],
)
def test_targets_are_the_features_of_the_classifiers_own_input(tmp_path: Path, changes: dict[str, Any]) -> None:
    channels = changes.get("in_channels", 1)
    backbone = {"name": "test_convnext", "feature_stage": 1, "in_channels": channels}
    member = member_of(tmp_path / "run", size_hw=(32, 64), input=changes.get("input", {}), backbone=backbone)
    levels = levels_of(5, (32, 64))
    teacher = Teacher(member, (32, 64), [8, 4], CPU)
    assert teacher.standardise_by([as_batch(levels[:2]), as_batch(levels[2:])]) == [32, 24]
    maps = seen_maps(member, levels)
    for found, wanted in zip(teacher(as_batch(levels)), (maps[1], maps[0]), strict=True):
        assert found.shape == wanted.shape
        assert torch.allclose(found, standardised(wanted), atol=2e-3)


def test_bars_of_a_letterbox_are_cut_off(tmp_path: Path) -> None:
    member = member_of(tmp_path / "run", size_hw=(64, 64), input={"keep_aspect": True})
    levels = levels_of(3, (32, 64))
    teacher = Teacher(member, (32, 64), [8], CPU)
    teacher.standardise_by([as_batch(levels)])
    barred = [np.pad(one, ((16, 16), (0, 0))) for one in levels]
    expected = standardised(seen_maps(member, barred)[1][:, :, 2:6])
    assert torch.allclose(teacher(as_batch(levels))[0], expected, atol=2e-3)


def test_squashed_pictures_give_features_on_the_detectors_grid(tmp_path: Path) -> None:
    member = member_of(tmp_path / "run", size_hw=(32, 48))
    levels = levels_of(3, (64, 192))
    teacher = Teacher(member, (64, 192), [8, 32], CPU)
    teacher.standardise_by([as_batch(levels)])
    content = nn.functional.interpolate(as_batch(levels), (32, 48), mode="bilinear", antialias=True)
    inputs = (content - member.input.mean[0]) / member.input.std[0]
    with torch.no_grad():
        last = stage_maps(member.model.backbone, inputs)[-1]
    fine, coarse = teacher(as_batch(levels))
    resized = nn.functional.interpolate(last, (8, 24), mode="bilinear", align_corners=False)
    assert torch.allclose(fine, standardised(resized), atol=2e-3)
    assert coarse.shape == (3, 32, 2, 6)


def test_a_channel_that_never_changes_is_zero(tmp_path: Path) -> None:
    member = member_of(tmp_path / "run", size_hw=(32, 64))
    with torch.no_grad():
        for parameter in member.model.parameters():
            parameter.zero_()
    teacher = Teacher(member, (32, 64), [8], CPU)
    teacher.standardise_by([as_batch(levels_of(2, (32, 64)))])
    assert torch.equal(teacher(torch.rand(2, 1, 32, 64))[0], torch.zeros(2, 32, 4, 8))


@pytest.mark.parametrize(("stride", "chosen"), [(4, 0), (8, 2), (16, 3), (32, 3), (2, 0)])
def test_the_deepest_map_that_is_fine_enough(stride: int, chosen: int) -> None:
    maps = [torch.full((1, 1, 64 // own, 96 // own), float(place)) for place, own in enumerate((4, 8, 8, 16))]
    assert deepest_map(maps, 64, stride).unique().tolist() == [chosen]


def test_cells_are_sampled_at_their_centres() -> None:
    """A map of 4 x 8 cells over an input of 32 x 64, of which columns 16 to 48 are the detector's picture."""
    resize = Resize((60, 60), (32, 64), keep_aspect=True)
    assert resize.offset_yx == (0, 16) and resize.content_hw == (32, 32)
    column, row = torch.arange(8.0).expand(4, 8), torch.arange(4.0)[:, None].expand(4, 8)
    found = on_grid(torch.stack([column, row])[None], resize, (2, 4))
    assert torch.allclose(found[0, 0], torch.tensor([2.0, 3, 4, 5]).expand(2, 4), atol=1e-5)
    assert torch.allclose(found[0, 1], torch.tensor([[0.5], [2.5]]).expand(2, 4), atol=1e-5)


def test_of_an_ensemble_the_first_network_teaches(tmp_path: Path) -> None:
    out = tmp_path / "both"
    run = start_run(out, stage="stage1", settings=parse_settings(EnsembleSettings, {}, source="test"), inputs={})
    names = [f"members/{number}" for number in range(2)]
    for number, name in enumerate(names):
        make_classifier_run(out / name, backbone={"name": "test_convnext", "feature_stage": number})
    save_calibration(out / "calibration.json", Calibration("platt", CURVES))
    run.finish({}, {"calibration": out / "calibration.json"}, members=names)
    found, first = first_member(out), first_member(out / names[0])
    state = first.model.state_dict()
    assert found.model.backbone.num_features == 24
    assert all(torch.equal(value, state[key]) for key, value in found.model.state_dict().items())

"""Maps of a split are made once, a part at a time, and bad images do not stop it."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from cxr.config import UserError
from cxr.imaging.pictures import Pictures
from cxr.runs.lock import remove_left_over
from cxr.tables import Exclusion
from stage2_pseudolabel.cam_maps import store
from stage2_pseudolabel.cam_maps.balance import member_view_scales
from stage2_pseudolabel.cam_maps.processes import make_processes
from stage2_pseudolabel.cam_maps.store import SplitMaps, split_maps
from stage2_pseudolabel.cam_maps.teacher import Teacher
from stage2_pseudolabel.settings.cam import CamOptions
from tests.stage2_pseudolabel.cam_maps.teacher_builders import METHODS, member, pictures_of, teacher

UNDECODABLE = "image that cannot be decoded"
NOT_FINITE = "features or maps that are not finite"


def made(made_by: Teacher, pictures: Pictures, folder: Path, *, methods: list[str] | None = None) -> SplitMaps:
    return split_maps(
        made_by, pictures, methods or METHODS, folder=folder / "maps", name="t", processes=make_processes()
    )


def stamps(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in sorted((folder / "maps").glob("*.npz"))}


def assert_same(one: SplitMaps, other: SplitMaps) -> None:
    assert list(one.maps) == list(other.maps)
    for method in one.maps:
        np.testing.assert_array_equal(one.maps[method], other.maps[method])
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    assert one.bad == other.bad


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def test_no_images_give_empty_maps(tmp_path: Path) -> None:
    data, _ = pictures_of(tmp_path, num_images=1)
    nothing = Pictures(data.select([]), member(tmp_path, seed=0).input)
    found = made(teacher(tmp_path, member(tmp_path, seed=0)), nothing, tmp_path)
    assert {name: maps.shape for name, maps in found.maps.items()} == dict.fromkeys(METHODS, (0, 2, 0, 0))
    assert found.probabilities.shape == (0, 2)
    assert found.bad == ()


def test_parts_are_found_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, pictures = pictures_of(tmp_path, num_images=6)
    alone = teacher(tmp_path, member(tmp_path, seed=0))
    first = made(alone, pictures, tmp_path)
    assert first.maps["pcam"].shape == (6, 2, 4, 6)
    assert first.maps["pcam"].dtype == np.float32
    before = stamps(tmp_path)
    assert len(before) == 2
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == sorted(before)
    with caplog.at_level(logging.INFO, "raybox"):
        assert_same(made(alone, pictures, tmp_path), first)
    assert stamps(tmp_path) == before
    assert "t: 2 of 2 parts exist already" in caplog.messages


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_part_is_made_again_and_no_other(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, pictures = pictures_of(tmp_path, num_images=6)
    alone = teacher(tmp_path, member(tmp_path, seed=0))
    first = made(alone, pictures, tmp_path)
    before = stamps(tmp_path)
    whole, broken = before
    file = tmp_path / "maps" / broken
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content[:200] if damage == "cut" else content)
    assert_same(made(alone, pictures, tmp_path), first)
    assert stamps(tmp_path)[whole] == before[whole]
    assert f"{broken} is damaged: computing it again" in caplog.messages


def test_what_a_killed_process_left_is_no_part(tmp_path: Path) -> None:
    _, pictures = pictures_of(tmp_path, num_images=3)
    alone = teacher(tmp_path, member(tmp_path, seed=0))
    first = made(alone, pictures, tmp_path)
    (name,) = stamps(tmp_path)
    file = tmp_path / "maps" / name
    left = file.rename(file.with_name(f".{name}.123.partial"))
    spoil(left)
    assert_same(made(alone, pictures, tmp_path), first)
    remove_left_over(tmp_path)  # as the start of a run does
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [name]


def test_images_in_another_order_are_other_parts(tmp_path: Path) -> None:
    data, pictures = pictures_of(tmp_path, num_images=3)
    alone = teacher(tmp_path, member(tmp_path, seed=0))
    first = made(alone, pictures, tmp_path)
    turned = data.images.iloc[::-1].reset_index(drop=True)
    other = type(data)(data.name, data.root, turned, data.labels.iloc[::-1], data.boxes)
    found = made(alone, Pictures(other, alone.trained.members[0].input), tmp_path)
    np.testing.assert_allclose(found.maps["pcam"], first.maps["pcam"][::-1], rtol=1e-4, atol=1e-6)


def test_only_the_methods_that_a_part_lacks_are_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, pictures = pictures_of(tmp_path, num_images=6)
    alone = teacher(tmp_path, member(tmp_path, seed=0))
    asked: list[list[str]] = []
    original = store.compute_part

    def noted(*given: object, **named: object) -> object:
        asked.append(list(given[2]))
        return original(*given, **named)

    monkeypatch.setattr(store, "compute_part", noted)
    first = made(alone, pictures, tmp_path, methods=["gradcam"])
    both = made(alone, pictures, tmp_path)
    again = made(alone, pictures, tmp_path, methods=["gradcam"])
    assert asked == [["gradcam"]] * 2 + [["pcam"]] * 2
    assert_same(first, again)
    assert list(both.maps) == METHODS
    with pytest.raises(KeyError):
        first.maps["pcam"]


def test_an_unknown_method_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    _, pictures = pictures_of(tmp_path, num_images=3)
    with pytest.raises(UserError, match="no method 'gradkam'"):
        made(teacher(tmp_path, member(tmp_path, seed=0)), pictures, tmp_path, methods=["gradkam"])
    assert not (tmp_path / "maps").exists()


def test_stages_that_a_network_lacks_leave_no_folder_that_would_refuse_other_settings(tmp_path: Path) -> None:
    _, pictures = pictures_of(tmp_path, num_images=3)
    broken = teacher(tmp_path, member(tmp_path, seed=0))
    broken._fitting = {view: CamOptions(layercam_stages=[-9]) for view in broken.member_views}
    with pytest.raises(UserError, match=r"cam.layercam_stages: got \[-9\]"):
        made(broken, pictures, tmp_path, methods=["layercamfusion"])
    assert not (tmp_path / "maps").exists()


def test_a_picture_that_cannot_be_read_is_named_and_the_rest_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, pictures = pictures_of(tmp_path, num_images=6, cached=False)
    alone = teacher(tmp_path, member(tmp_path, seed=0))
    whole = made(alone, pictures, tmp_path / "whole")
    ids = data.images["image_id"].tolist()
    spoil(data.root / data.images["path"][1])
    found = made(alone, pictures, tmp_path)
    assert found.bad == (Exclusion(ids[1], UNDECODABLE),)
    assert any(f"{data.images['path'][1]}" in message for message in caplog.messages)
    rest = [0, 2, 3, 4, 5]
    for method in METHODS:
        assert not found.maps[method][1].any()
        np.testing.assert_allclose(found.maps[method][rest], whole.maps[method][rest], rtol=1e-4, atol=1e-6)
    assert found.probabilities[1].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(found.probabilities[rest], whole.probabilities[rest], rtol=1e-5)
    before = stamps(tmp_path)
    assert_same(made(alone, pictures, tmp_path), found)
    assert stamps(tmp_path) == before


def test_a_part_of_bad_images_alone_is_zeros(tmp_path: Path) -> None:
    """Of five images the fifth is a part of its own, which never learns how large a map is."""
    data, pictures = pictures_of(tmp_path, num_images=5, cached=False)
    spoil(data.root / data.images["path"][4])
    found = made(teacher(tmp_path, member(tmp_path, seed=0)), pictures, tmp_path)
    assert [item.what for item in found.bad] == [data.images["image_id"][4]]
    assert found.maps["gradcam"].shape == (5, 2, 4, 6)
    assert found.maps["gradcam"][:4].any(axis=(1, 2, 3)).all()
    assert not found.maps["gradcam"][4].any()


def overflow_on(broken: Teacher, row: int, pictures: Pictures) -> None:
    """Make the network's features of this picture infinite."""
    marked = broken.inputs(pictures, [row])[0][0]

    def spoil_features(_: object, given: tuple[torch.Tensor], made: torch.Tensor) -> torch.Tensor:
        is_it = torch.tensor([torch.equal(image, marked) for image in given[0]])
        return torch.where(is_it[:, None, None, None], torch.inf, made)

    broken.trained.members[0].model.backbone.register_forward_hook(spoil_features)


def test_an_image_with_features_that_are_not_finite_is_named_and_the_rest_is_there(tmp_path: Path) -> None:
    data, pictures = pictures_of(tmp_path, num_images=6)
    alone = teacher(tmp_path, member(tmp_path, seed=0))
    whole = made(alone, pictures, tmp_path / "whole")
    overflow_on(alone, 0, pictures)
    found = made(alone, pictures, tmp_path)
    assert found.bad == (Exclusion(data.images["image_id"][0], NOT_FINITE),)
    assert not found.maps["gradcam"][0].any()
    assert found.probabilities[0].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(found.maps["gradcam"][1:4], whole.maps["gradcam"][1:4], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found.maps["gradcam"][4:], whole.maps["gradcam"][4:])


def test_a_network_that_gives_nothing_finite_is_an_error(tmp_path: Path) -> None:
    data, pictures = pictures_of(tmp_path, num_images=3)
    alone = teacher(tmp_path, member(tmp_path, seed=0))
    next(alone.trained.members[0].model.parameters()).data.fill_(torch.nan)
    with pytest.raises(UserError) as error:
        made(alone, pictures, tmp_path)
    assert error.value.problems[0].startswith(
        f"maps: none of the 3 images of t can be used, first {data.images['image_id'][0]} ({NOT_FINITE})"
    )


def test_selected_rows_and_columns(tmp_path: Path) -> None:
    _, pictures = pictures_of(tmp_path, num_images=6)
    found = made(teacher(tmp_path, member(tmp_path, seed=0)), pictures, tmp_path)
    chosen = found.select(rows=[5, 0], columns=[1])
    assert list(chosen.maps) == METHODS
    np.testing.assert_array_equal(chosen.maps["pcam"], found.maps["pcam"][[5, 0]][:, [1]])
    np.testing.assert_array_equal(chosen.probabilities, found.probabilities[[5, 0]][:, [1]])
    assert found.select(columns=[0]).maps["pcam"].shape == (6, 1, 4, 6)


def test_scales_are_root_mean_squares_relative_to_first_member_view(tmp_path: Path) -> None:
    """Over the first 16 of 18 pictures; the second network's gradients are 100 times the first's."""
    _, pictures = pictures_of(tmp_path, num_images=18)
    members = member(tmp_path, seed=0), member(tmp_path, seed=1)
    with torch.no_grad():
        members[1].model.head.classifier.weight *= 100
    both = teacher(tmp_path, *members)
    file = tmp_path / "scales.json"
    given = member_view_scales(both, pictures, METHODS, file=file, processes=make_processes())
    view_maps, _ = both.each_member_view(both.inputs(pictures, range(16)), METHODS)
    levels = [float(maps["gradcam"].double().square().mean().sqrt()) for maps in view_maps]
    assert json.loads(file.read_text()) == {"gradcam": pytest.approx(levels, rel=1e-6)}
    assert given["gradcam"] == [1.0, pytest.approx(levels[1] / levels[0], rel=1e-6)]
    assert given["gradcam"][1] > 10
    assert given["pcam"] == [1.0, 1.0], "probabilities are averaged as they are"


def test_scales_that_were_kept_are_used_and_what_they_lack_is_measured(tmp_path: Path) -> None:
    _, pictures = pictures_of(tmp_path, num_images=4)
    both = teacher(tmp_path, member(tmp_path, seed=0), member(tmp_path, seed=1))
    file = tmp_path / "scales.json"
    file.write_text('{"gradcam": [2.0, 8.0], "layercam": [1.0]}')
    methods = ["gradcam", "layercam"]
    given = member_view_scales(both, pictures, methods, file=file, processes=make_processes())
    kept = json.loads(file.read_text())
    assert kept["gradcam"] == [2.0, 8.0]
    assert given["gradcam"] == [1.0, 4.0]
    assert len(kept["layercam"]) == 2
    assert member_view_scales(both, pictures, methods, file=file, processes=make_processes()) == given
    file.write_text("{")
    anew = member_view_scales(both, pictures, methods, file=file, processes=make_processes())
    assert anew["layercam"] == given["layercam"]
    assert anew["gradcam"] != given["gradcam"]


def test_a_bad_picture_counts_nothing_in_the_scales(tmp_path: Path) -> None:
    data, pictures = pictures_of(tmp_path, num_images=4, cached=False)
    both = teacher(tmp_path, member(tmp_path, seed=0), member(tmp_path, seed=1))
    spoil(data.root / data.images["path"][0])
    processes = make_processes()
    with_it = member_view_scales(both, pictures, METHODS, file=tmp_path / "a.json", processes=processes)
    ids = data.images["image_id"].tolist()[1:]
    rest = Pictures(data.select(ids), both.trained.members[0].input)
    without = member_view_scales(both, rest, METHODS, file=tmp_path / "b.json", processes=processes)
    assert with_it == without


def test_a_single_network_is_never_scaled(tmp_path: Path) -> None:
    _, pictures = pictures_of(tmp_path, num_images=2)
    alone = teacher(tmp_path, member(tmp_path, seed=0))
    file = tmp_path / "scales.json"
    given = member_view_scales(alone, pictures, METHODS, file=file, processes=make_processes())
    assert given == {"gradcam": [1.0], "pcam": [1.0]}
    assert not file.exists()


def test_maps_of_an_ensemble_use_the_scales(tmp_path: Path) -> None:
    _, pictures = pictures_of(tmp_path, num_images=3)
    both = teacher(tmp_path, member(tmp_path, seed=0), member(tmp_path, seed=1))
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "scales.json").write_text('{"gradcam": [1.0, 4.0]}')
    (first, second), _ = both.each_member_view(both.inputs(pictures, range(3)), METHODS)
    found = made(both, pictures, tmp_path)
    expected = (first["gradcam"] + second["gradcam"] / 4) / 2
    np.testing.assert_array_equal(found.maps["gradcam"], expected.numpy())

"""From files to the network's input: stretched, resized, equalised, normalised; what cannot be decoded is told."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cxr.config import UserError
from cxr.imaging.pictures import UNDECODABLE, Pictures, decodable, resolved_input
from cxr.imaging.settings import InputSettings
from cxr.tables import Dataset
from tests.builders import write_picture
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings

SIZE_HW = (32, 48)


def input_settings(**changes: object) -> InputSettings:
    return InputSettings.model_validate({"size_hw": SIZE_HW, "cache_dir": None, **changes})


def images(root: Path, *, num_images: int = 4) -> Dataset:
    return stage1_settings(patch_folder(root, num_images=num_images)).data.read()


def test_pictures_are_stretched_resized_and_the_same_from_the_cache(tmp_path: Path) -> None:
    data = images(tmp_path)
    cached = Pictures(data, input_settings(cache_dir=tmp_path / "cache"))
    fresh = Pictures(data, input_settings())
    assert len(cached) == len(fresh) == 4
    for index in range(4):
        assert cached[index].shape == SIZE_HW
        assert cached[index].dtype == np.uint8
        np.testing.assert_array_equal(cached[index], fresh[index])
    assert (cached[1].min(), cached[1].max()) == (0, 255)
    batch = cached.batch([1, 2], 3)
    assert batch.shape == (2, 3, 32, 48)
    assert batch.max() == pytest.approx((1 - 0.5) / 0.25)
    assert batch.min() == pytest.approx((0 - 0.5) / 0.25)


def test_outside_of_training_the_network_sees_the_centre_of_the_picture(tmp_path: Path) -> None:
    data = images(tmp_path)
    whole = Pictures(data, input_settings()).batch([1], 1)
    settings = input_settings(crop_hw=(10, 20))
    np.testing.assert_array_equal(Pictures(data, settings).batch([1], 1), whole[:, :, 11:21, 14:34])
    assert (input_settings().net_hw, settings.net_hw) == (SIZE_HW, (10, 20))
    with pytest.raises(ValueError, match="expected at most size_hw"):
        input_settings(crop_hw=(33, 20))


def test_the_bright_box_is_where_the_transform_says(tmp_path: Path) -> None:
    for keep_aspect in (False, True):
        pictures = Pictures(images(tmp_path / str(keep_aspect)), input_settings(keep_aspect=keep_aspect))
        x1, y1, x2, y2 = pictures.transform((40, 60)).boxes_to_net([[5, 5, 20, 18]])[0]
        lit = np.argwhere(pictures[1] > 128)
        found = [lit[:, 1].min(), lit[:, 0].min(), lit[:, 1].max() + 1, lit[:, 0].max() + 1]
        np.testing.assert_allclose(found, [x1, y1, x2, y2], atol=1)


def test_stretching_comes_before_everything_else(tmp_path: Path) -> None:
    """A picture of few dark levels gives the same as one that fills the range, also after CLAHE."""
    data = images(tmp_path)
    levels = np.random.default_rng(0).integers(0, 52, (40, 60)).astype(np.uint8)
    for clahe_clip in (None, 2.0):
        pictures = []
        for factor, offset in ((1, 0), (5, 0), (1, 100)):
            for path in data.images["path"]:
                assert cv2.imwrite(str(data.root / path), levels * np.uint8(factor) + np.uint8(offset))
            pictures.append(Pictures(data, input_settings(clahe_clip=clahe_clip))[0])
        np.testing.assert_allclose(pictures[0].astype(int), pictures[1], atol=1)
        np.testing.assert_allclose(pictures[0].astype(int), pictures[2], atol=1)


def test_clahe_is_opencvs_with_eight_by_eight_tiles(tmp_path: Path) -> None:
    data = images(tmp_path)
    plain = Pictures(data, input_settings())[1]
    equalised = Pictures(data, input_settings(clahe_clip=3.0))[1]
    np.testing.assert_array_equal(equalised, cv2.createCLAHE(3.0, (8, 8)).apply(plain))
    assert (equalised != plain).any()


def test_clahe3_is_the_picture_and_two_equalised_ones(tmp_path: Path) -> None:
    data = images(tmp_path)
    settings = input_settings(size_hw=(160, 240), channels="clahe3")
    plain = Pictures(data, input_settings(size_hw=(160, 240)))[1]
    pictures = Pictures(data, settings)
    assert pictures[1].shape == (160, 240, 3)
    np.testing.assert_array_equal(pictures[1][:, :, 0], plain)
    for channel, clip in ((1, 2.0), (2, 4.0)):
        np.testing.assert_array_equal(pictures[1][:, :, channel], cv2.createCLAHE(clip, (8, 8)).apply(plain))
    assert (pictures[1][:, :, 1] != pictures[1][:, :, 2]).any()
    np.testing.assert_array_equal(
        Pictures(data, settings.model_copy(update={"cache_dir": tmp_path / "cache"}))[1], pictures[1]
    )
    batch = pictures.batch([1], 3)
    assert batch.shape == (1, 3, 160, 240)
    expected = torch.from_numpy(pictures[1]).permute(2, 0, 1).float().div(255).sub(0.5).div(0.25)
    assert torch.equal(batch[0], expected)


def test_input_is_exactly_scaled_shifted_and_repeated(tmp_path: Path) -> None:
    pictures = Pictures(images(tmp_path), input_settings(mean=[0.3], std=[0.2]))
    picture = np.arange(32 * 48, dtype=np.uint8).reshape(32, 48)
    expected = torch.from_numpy(picture).float().div_(255).sub_(0.3).div_(0.2)
    for num_channels in (1, 3):
        network_input = pictures.to_input(picture, num_channels)
        assert network_input.dtype == torch.float32
        assert network_input.shape == (num_channels, 32, 48)
        for channel in network_input:
            assert torch.equal(channel, expected)


def test_each_channel_has_its_mean_and_std(tmp_path: Path) -> None:
    data, picture = images(tmp_path), np.full((32, 48), 51, dtype=np.uint8)
    per_channel = Pictures(data, input_settings(mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 0.1]))
    values = per_channel.to_input(picture, 3)[:, 0, 0]
    assert values.tolist() == pytest.approx([0.2, 0.0, -1.0], abs=1e-6)
    coloured = np.stack([picture, picture * 2, picture * 3], axis=-1)
    values = per_channel.to_input(coloured, 3)[:, 0, 0]
    assert values.tolist() == pytest.approx([0.2, 0.8, 3.0], abs=1e-6)
    mixed = Pictures(data, input_settings(mean=[0.1, 0.2, 0.3], std=[0.5]))
    assert mixed.to_input(picture, 3)[:, 0, 0].tolist() == pytest.approx([0.2, 0.0, -0.2], abs=1e-6)


@pytest.mark.parametrize(("mean", "num_channels"), [([0.1, 0.2], 3), ([0.1, 0.2, 0.3], 1)])
def test_a_wrong_number_of_statistics_is_told(tmp_path: Path, mean: list[float], num_channels: int) -> None:
    for name in ("mean", "std"):
        pictures = Pictures(images(tmp_path / name), input_settings(**{name: mean}))
        with pytest.raises(UserError, match=rf"input\.{name}: got {len(mean)} values.*{num_channels} channels"):
            pictures.batch([0], num_channels)


@pytest.mark.parametrize("shape", [(1, 32, 48), (3, 32, 48), (32, 48, 1)])
def test_channels_that_come_first_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pictures = Pictures(images(tmp_path), input_settings())
    with pytest.raises(AssertionError, match=r"expected a picture \(H, W\) or \(H, W, 3\), got \("):
        pictures.to_input(np.zeros(shape, dtype=np.uint8), 3)


def test_unresolved_statistics_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="resolved_input"):
        Pictures(images(tmp_path), input_settings(normalise="imagenet")).batch([0], 1)


def test_other_pixels_are_not_a_matter_of_statistics(tmp_path: Path) -> None:
    pictures = Pictures(images(tmp_path), input_settings())
    elsewhere = input_settings(cache_dir=tmp_path / "cache", mean=[0.1])
    assert pictures.normalised_by(elsewhere).batch([0], 1).shape == (1, 1, 32, 48)
    with pytest.raises(AssertionError, match="other settings make other pictures"):
        pictures.normalised_by(input_settings(keep_aspect=True))


def test_fixed_statistics_stay(tmp_path: Path) -> None:
    settings = input_settings(mean=[0.4], std=[0.3])
    assert resolved_input(settings, Pictures(images(tmp_path), settings), num_channels=1) is settings


@pytest.mark.parametrize(
    ("num_channels", "mean", "std"), [(1, [0.449], [0.226]), (3, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
)
def test_imagenets_statistics(tmp_path: Path, num_channels: int, mean: list[float], std: list[float]) -> None:
    settings = input_settings(normalise="imagenet")
    pictures = Pictures(images(tmp_path), settings)
    resolved = resolved_input(settings, pictures, num_channels=num_channels)
    assert resolved == input_settings(normalise="fixed", mean=mean, std=std)
    normalised = pictures.normalised_by(resolved).to_input(np.full((2, 3), 255, dtype=np.uint8), num_channels)
    expected = [(1 - m) / s for m, s in zip(mean, std, strict=True)]
    assert normalised[:, 0, 0].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("channels", ["grey", "clahe3"])
def test_statistics_of_the_training_set_are_those_of_all_its_pixels(tmp_path: Path, channels: str) -> None:
    settings = input_settings(
        normalise="training_set", channels=channels, size_hw=(60, 88), cache_dir=tmp_path / "cache"
    )
    pictures = Pictures(images(tmp_path, num_images=7), settings)
    resolved = resolved_input(settings, pictures, num_channels=3)
    stack = np.stack([pictures[index] for index in range(7)]).astype(np.float64).reshape(7 * 60 * 88, -1) / 255
    assert resolved.normalise == "fixed"
    np.testing.assert_allclose(resolved.mean, stack.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(resolved.std, stack.std(axis=0), rtol=1e-12)
    assert len(resolved.mean) == (3 if channels == "clahe3" else 1)
    batch = pictures.normalised_by(resolved).batch(range(7), 3)
    np.testing.assert_allclose(batch.mean(dim=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(batch.std(dim=(0, 2, 3), correction=0), 1, atol=1e-4)


def test_two_pictures_by_hand(tmp_path: Path) -> None:
    """Half black and half white, and a quarter white: mean 3/8, variance 3/8 - 9/64."""
    data = images(tmp_path, num_images=2)
    for path, bright in zip(data.images["path"], (30, 15), strict=True):
        picture = np.zeros((40, 60), dtype=np.uint8)
        picture[:, :bright] = 200
        assert cv2.imwrite(str(data.root / path), picture)
    settings = input_settings(normalise="training_set", size_hw=(40, 60))
    resolved = resolved_input(settings, Pictures(data, settings), num_channels=1)
    assert resolved.mean == [0.375]
    assert resolved.std == [pytest.approx((3 / 8 - 9 / 64) ** 0.5, rel=1e-15)]


def test_a_training_set_of_one_level_has_no_statistics(tmp_path: Path) -> None:
    data = images(tmp_path, num_images=2)
    for path in data.images["path"]:
        assert cv2.imwrite(str(data.root / path), np.tile(np.array([0, 90], dtype=np.uint8), (40, 30)))
    settings = input_settings(normalise="training_set", size_hw=(4, 6))  # each pixel is the mean of both values
    with pytest.raises(UserError, match=r"input\.normalise=training_set: all training pixels are equal"):
        resolved_input(settings, Pictures(data, settings), num_channels=1)


# Images that only fail when their pixels are decoded.


def damage(data: Dataset, *rows: int) -> list[str]:
    """Cut the files of these rows; returns their ids."""
    for row in rows:
        path = data.root / data.images["path"].iloc[row]
        path.write_bytes(path.read_bytes()[:60])
    return data.images["image_id"].iloc[list(rows)].tolist()


@pytest.mark.parametrize("cached", [True, False])
def test_undecodable_images_are_left_out_and_named_when_asked(tmp_path: Path, cached: bool) -> None:
    data = images(tmp_path, num_images=6)
    bad = damage(data, 1, 4)
    settings = input_settings(cache_dir=tmp_path / "cache" if cached else None)
    kept = decodable(data, settings, on_problem="exclude")
    assert kept.images["image_id"].tolist() == [i for i in data.images["image_id"] if i not in bad]
    assert [(item.what, item.reason) for item in kept.excluded] == [(i, UNDECODABLE) for i in bad]
    pictures = Pictures(kept, settings)
    assert len(pictures) == 4
    np.testing.assert_array_equal(pictures[3], Pictures(data, input_settings())[5])


def test_undecodable_images_are_an_error_otherwise(tmp_path: Path) -> None:
    data = images(tmp_path, num_images=26)
    damage(data, *range(1, 24))
    settings = input_settings(cache_dir=tmp_path / "cache")
    for work in (lambda: decodable(data, settings, on_problem="error"), lambda: Pictures(data, settings)):
        with pytest.raises(UserError) as error:
            work()
        assert len(error.value.problems) == 21
        assert "p001.png" in error.value.problems[0]
        assert error.value.problems[-1].startswith("image: 23 of 26 cannot be read")
        assert "data.on_problem=exclude" in error.value.problems[-1]


def test_all_undecodable_is_an_error_in_any_case(tmp_path: Path) -> None:
    data = images(tmp_path, num_images=2)
    damage(data, 0, 1)
    with pytest.raises(UserError, match=r"2 of 2 cannot be read; .*check data\.root") as error:
        decodable(data, input_settings(), on_problem="exclude")
    assert "on_problem" not in str(error.value)  # it would not help


def test_a_sound_data_set_comes_back_as_it_is(tmp_path: Path) -> None:
    data = images(tmp_path)
    assert decodable(data, input_settings(cache_dir=tmp_path / "cache"), on_problem="exclude") is data
    damage(data, 0)
    assert decodable(data, input_settings(), on_problem="error") is data  # nothing is decoded ahead


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    data = images(tmp_path)
    (data.root / data.images["path"].iloc[2]).unlink()
    with pytest.raises(UserError, match=r"no file .*p002\.png"):
        Pictures(data, input_settings(cache_dir=tmp_path / "cache"))
    with pytest.raises(UserError, match=r"no file .*p002\.png"):
        Pictures(data, input_settings())[2]


def test_dicoms_are_pictures_too(tmp_path: Path) -> None:
    data = images(tmp_path, num_images=2)
    write_picture(tmp_path / "images" / "a.dicom", (40, 60), bright_xyxy=(5, 5, 20, 18))
    paths = data.images["path"].tolist()
    moved = data.images.assign(path=["images/a.dicom", paths[1]])
    dicom = Dataset(data.name, data.root, moved, data.labels, data.boxes)
    pictures = Pictures(dicom, input_settings(cache_dir=tmp_path / "cache"))
    assert (pictures[0] > 200).mean() == pytest.approx(15 * 13 / 2400, abs=0.02)

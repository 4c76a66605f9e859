from pathlib import Path

import numpy as np
import pytest
from stage1_builders import patch_folder, stage1_settings

from cxr.config import UserError
from stage1_classify.augment import Augmentation
from stage1_classify.config import AugmentSettings
from stage1_classify.data import EpochSampler, TrainingSet
from stage1_classify.pictures import Pictures

OFF = dict.fromkeys(
    ["affine", "brightness_contrast", "horizontal_flip", "grid_distortion", "elastic", "erase"], 0.0
)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_processes_together_take_the_steps_of_one(world_size: int) -> None:
    alone = list(EpochSampler(21, 8, seed=3))
    shares = [
        list(EpochSampler(21, 8, seed=3, rank=rank, world_size=world_size)) for rank in range(world_size)
    ]
    together = [sorted(index for share in step for index in share) for step in zip(*shares, strict=True)]
    assert together == [sorted(step) for step in alone]
    assert len(alone) == 2


def test_order_depends_on_seed_and_epoch() -> None:
    sampler = EpochSampler(20, 5, seed=0)
    first = list(sampler)
    sampler.epoch = 1
    assert list(sampler) != first
    assert list(EpochSampler(20, 5, seed=1)) != first
    assert list(EpochSampler(20, 5, seed=0)) == first


def test_impossible_batches_are_refused() -> None:
    with pytest.raises(UserError, match="multiple of the 2 processes"):
        EpochSampler(20, 5, seed=0, world_size=2)
    with pytest.raises(UserError, match="training split has 3 images"):
        EpochSampler(3, 5, seed=0)


def test_pictures_are_stretched_resized_and_the_same_from_cache(tmp_path: Path) -> None:
    settings = stage1_settings(patch_folder(tmp_path, num_images=4))
    data = settings.data.read()
    cached, fresh = (
        Pictures(data, settings.input.model_copy(update={"cache_dir": folder}))
        for folder in (tmp_path / "cache", None)
    )
    assert len(cached) == 4
    assert cached[1].shape == (32, 48)
    assert cached[1].max() == 255
    np.testing.assert_array_equal(cached[1], fresh[1])
    batch = cached.batch([1, 2], 3)
    assert batch.shape == (2, 3, 32, 48)
    assert batch.max() == pytest.approx((1 - 0.5) / 0.25)


def test_the_bright_box_is_where_the_transform_says(tmp_path: Path) -> None:
    settings = stage1_settings(patch_folder(tmp_path, num_images=2))
    pictures = Pictures(settings.data.read(), settings.input)
    x1, y1, x2, y2 = pictures.transform((40, 60)).boxes_to_net([[5, 5, 20, 18]])[0]
    lit = np.argwhere(pictures[1] > 128)
    found = [lit[:, 1].min(), lit[:, 0].min(), lit[:, 1].max() + 1, lit[:, 0].max() + 1]
    np.testing.assert_allclose(found, [x1, y1, x2, y2], atol=1)


def test_augmentation_repeats_with_its_seed_and_off_is_the_identity() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (32, 48), dtype=np.uint8)
    strong = Augmentation(AugmentSettings.model_validate({**OFF, "affine": 1.0, "brightness_contrast": 1.0}))
    np.testing.assert_array_equal(strong(picture, seed=5), strong(picture, seed=5))
    assert (strong(picture, seed=5) != strong(picture, seed=6)).any()
    np.testing.assert_array_equal(Augmentation(AugmentSettings.model_validate(OFF))(picture, seed=5), picture)


@pytest.mark.parametrize("part", OFF)
def test_every_part_of_the_augmentation_changes_the_picture(part: str) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (32, 48), dtype=np.uint8)
    changed = Augmentation(AugmentSettings.model_validate({**OFF, part: 1.0}))(picture, seed=1)
    assert changed.shape == picture.shape
    assert changed.dtype == np.uint8
    assert (changed != picture).any()


def test_channels_first_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"expected \(H, W\)"):
        Augmentation(AugmentSettings.model_validate(OFF))(np.zeros((1, 32, 48), dtype=np.uint8), seed=0)


def test_items_depend_on_epoch_and_index_alone(tmp_path: Path) -> None:
    settings = stage1_settings(patch_folder(tmp_path, num_images=4))
    pictures = Pictures(settings.data.read(), settings.input)
    items = TrainingSet(
        pictures, np.zeros((4, 2), np.float32), Augmentation(settings.augment), num_channels=1, seed=0
    )
    first = items[2][0].clone()
    items[1]  # another item in between changes nothing
    assert (items[2][0] == first).all()
    items.epoch = 1
    assert (items[2][0] != first).any()

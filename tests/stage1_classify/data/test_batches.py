"""Cases to batches: every view once, augmentation by seed, epoch and image, workers that change nothing."""

import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cxr.config import UserError
from cxr.imaging.pictures import Pictures
from stage1_classify.data.augment import Augmentation
from stage1_classify.data.batches import Batch, Split, TrainingSet, check_no_empty_finding, training_loader
from stage1_classify.data.studies import Cases, Views
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.settings.input import AugmentSettings
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings

STUDIES: Views = ((0, 2), (1,), (5, 3, 4))


def split_of(settings: Stage1Settings, views: Views) -> Split:
    """The images of `patch_folder` in these cases; a case's targets are its number and NaN."""
    data = settings.data.read()
    first = data.select(data.images["image_id"].iloc[[rows[0] for rows in views]])
    targets = np.array([[case, np.nan] for case in range(len(views))], dtype=np.float32)
    return Split(Pictures(data, settings.input), Cases(views, first), targets)


def training_set(root: Path, views: Views = STUDIES, *, num_channels: int = 1, **changes: object) -> TrainingSet:
    settings = stage1_settings(patch_folder(root, num_images=6), **changes)
    split = split_of(settings, views)
    return TrainingSet(split, Augmentation(settings.augment), num_channels=num_channels, seed=7)


def batches_of(items: TrainingSet, batches: list[list[int]], *, num_workers: int) -> list[Batch]:
    return list(training_loader(items, batches, num_workers=num_workers))


def assert_equal(first: Batch, second: Batch) -> None:
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_a_batch_holds_every_view_of_its_cases_and_nothing_else(tmp_path: Path) -> None:
    items = training_set(tmp_path)
    assert len(items) == 3
    [batch] = batches_of(items, [[2, 0, 1]], num_workers=0)
    assert batch.images.shape == (6, 1, 32, 48)
    assert batch.cases.tolist() == [0, 0, 0, 1, 1, 2]
    assert batch.cases.dtype == torch.int64
    assert batch.indices.tolist() == [2, 0, 1]
    assert batch.targets[:, 0].tolist() == [2, 0, 1]
    assert batch.targets[:, 1].isnan().all()
    alone = [items[case] for case in (2, 0, 1)]
    assert torch.equal(batch.images, torch.cat([item.images for item in alone]))


def test_a_view_is_its_picture_augmented_by_its_own_seed(tmp_path: Path) -> None:
    """The seed is of (seed, epoch, row of the image): fixed for good, so that earlier runs can be repeated."""
    settings = stage1_settings(patch_folder(tmp_path, num_images=6))
    split, augmentation = split_of(settings, STUDIES), Augmentation(settings.augment)
    items = TrainingSet(split, augmentation, num_channels=3, seed=7)
    items.epoch = 4
    for case, rows in enumerate(STUDIES):
        for view, row in enumerate(rows):
            picture = augmentation(split.pictures[row], seed=zlib.crc32(f"7 4 {row}".encode()))
            assert torch.equal(items[case].images[view], split.pictures.to_input(picture, 3))


def test_items_depend_on_epoch_and_image_alone(tmp_path: Path) -> None:
    items = training_set(tmp_path)
    first = items[2].images.clone()
    items[1]  # another item in between changes nothing
    assert torch.equal(items[2].images, first)
    items.epoch = 1
    assert not torch.equal(items[2].images, first)
    alone = training_set(tmp_path, views=((3,), (4,), (5,)))  # an image looks the same in whatever case it is
    assert torch.equal(torch.cat([alone[2].images, alone[0].images, alone[1].images]), first)


def test_the_loader_follows_the_batches(tmp_path: Path) -> None:
    loader = training_loader(training_set(tmp_path), [[1], [0, 2], []][:2], num_workers=0)
    assert len(loader) == 2
    assert [batch.indices.tolist() for batch in loader] == [[1], [0, 2]]


@pytest.mark.parametrize("cached", [True, False])
def test_workers_give_the_same_batches(tmp_path: Path, cached: bool) -> None:
    parts = {name: 0.5 for name in AugmentSettings.model_fields if name.endswith("_probability")}
    augment = {**parts, "elastic_probability": 1.0, "elastic_sigma": 20.0, "elastic_alpha": 200.0}
    places = {} if cached else {"input": {"cache_dir": None}}
    items = training_set(tmp_path, augment=augment, num_channels=3, **places)
    order = [[2, 0], [1], [0, 1, 2]]
    for epoch in range(2):
        items.epoch = epoch
        alone = batches_of(items, order, num_workers=0)
        for one, other in zip(alone, batches_of(items, order, num_workers=2), strict=True):
            assert_equal(one, other)


def test_findings_without_a_positive_are_named() -> None:
    labels = pd.DataFrame({"Edema": [0, -1], "Cardiomegaly": [1, 0], "Fracture": [np.nan, 0]})
    with pytest.raises(UserError, match="no positives of Edema, Fracture among 2 train images"):
        check_no_empty_finding(labels, split="train")
    check_no_empty_finding(labels[["Cardiomegaly"]], split="train")

"""stage1_classify.evaluation.example_pictures: the steps that are shown are those of training, in order and upright."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stage1_classify.data.augment import Augmentation
from stage1_classify.data.batches import Split, TrainingSet
from stage1_classify.evaluation.example_pictures import (
    batch_grid,
    batch_tiles,
    first_steps,
    most_varied,
    step_grid,
    step_tiles,
    target_text,
    typical_cases,
)
from stage1_classify.settings.classifier import Stage1Settings
from tests.stage1_classify.evaluation.scored_builders import NAN, scored, split_of
from tests.stage1_classify.stage1_builders import patch_folder, stage1_settings

CLAHE3: dict[str, Any] = {"input": {"channels": "clahe3"}, "backbone": {"in_channels": 3}}


def tiny(
    root: Path, *, images: Any = None, max_views: int | None = None, **changes: Any
) -> tuple[Split, Stage1Settings]:
    """Eight cases of 40 x 60, seen as 32 x 48, that are always rotated and never erased."""
    plain = {"affine_probability": 1.0, "contrast_probability": 0, "erase_probability": 0}
    changes["augment"] = plain | changes.get("augment", {})
    settings = stage1_settings(patch_folder(root / "data", num_images=6), **changes)
    targets = [[row % 2, 0] for row in range(8)]
    return split_of(root, targets, images=images, settings=settings.input, max_views=max_views), settings


TARGETS = [
    ([0, 0], "no finding"),
    ([1, 0], "Edema"),
    ([1, 0.625], "Edema, Mass 0.62"),
    ([-1, 1], "Edema uncertain, Mass"),
    ([NAN, 0], "no finding (1 masked)"),
    ([NAN, NAN], "no finding (2 masked)"),
]


@pytest.mark.parametrize(("targets", "expected"), TARGETS)
def test_targets_in_words(targets: list[float], expected: str) -> None:
    assert target_text(np.array(targets, dtype=np.float32), ["Edema", "Mass"]) == expected


def test_typical_cases_are_the_median_positives_of_the_most_frequent_findings(tmp_path: Path) -> None:
    assert typical_cases(scored(tmp_path / "none", [[0, 0]], [[0.1, 0.1]]), 2) == []
    split = scored(
        tmp_path / "some", [[1, 0], [1, 0], [1, 1], [0, NAN]], [[0.9, 0.5], [0.1, 0.5], [0.4, 0.5], [0.6, 0.5]]
    )
    assert typical_cases(split, 2) == [(0, 2), (1, 2)]
    assert typical_cases(split, 1) == [(0, 2)]


def test_grey_steps_in_order(tmp_path: Path) -> None:
    split, settings = tiny(tmp_path, train={"batch_size": 2}, augment={"flip_probability": 1.0})
    columns = step_tiles(split, settings)
    assert [[caption.split(":")[0] for _, caption in column] for column in columns] == [
        ["image file", "decoded, 32 x 48", "flip", "affine", "normalised"]
    ] * 2
    assert [picture.shape for picture, _ in columns[0]] == [(40, 60, 3)] + [(32, 48, 3)] * 4


def test_a_step_that_was_not_applied_says_so(tmp_path: Path) -> None:
    split, settings = tiny(tmp_path, augment={"affine_probability": 0, "erase_probability": 1e-9})
    captions = [caption for _, caption in step_tiles(split, settings)[0]]
    assert captions[2] == "erase (not applied)"


def test_three_channels_are_shown_one_by_one(tmp_path: Path) -> None:
    split, settings = tiny(tmp_path, **CLAHE3)
    column = step_tiles(split, settings)[0]
    assert [caption.partition(", ")[2].partition(": -")[0] for _, caption in column[1:4]] == [
        f"32 x 48, channel {name}" for name in ("1: plain", "2: CLAHE, clip 2", "3: CLAHE, clip 4")
    ]
    assert [caption.partition(":")[0] for _, caption in column[4:]] == [
        "affine", *(f"normalised, channel {number}" for number in (1, 2, 3))
    ]  # fmt: skip
    assert step_grid(split, settings).shape[2] == batch_grid(split, settings).shape[2] == 3


@pytest.mark.parametrize("changes", [{}, CLAHE3], ids=["grey", "clahe3"])
def test_the_last_step_is_what_training_gets(tmp_path: Path, changes: dict[str, Any]) -> None:
    split, settings = tiny(tmp_path, seed=3, **changes)
    channels = settings.backbone.in_channels
    items = TrainingSet(split, Augmentation(settings.augment), num_channels=channels, seed=3)
    shown = split.pictures.to_input(first_steps(split, 5, settings)[-1][1], channels)
    np.testing.assert_array_equal(shown.numpy(), items[5].images[0].numpy())


def test_normalised_values_are_told(tmp_path: Path) -> None:
    split, settings = tiny(tmp_path, augment={"affine_probability": 0}, input={"mean": [0.0], "std": [0.5]})
    caption = step_tiles(split, settings)[0][-1][1]
    assert caption.startswith("normalised: 0.00 to ")  # stretched to 0..1 when decoded
    assert float(caption.split(" to ")[1].split(",")[0]) == pytest.approx(2.0, abs=0.7)


def test_pictures_that_show_most_steps_are_chosen() -> None:
    same, other = np.zeros((2, 3), dtype=np.uint8), np.ones((2, 3), dtype=np.uint8)
    nothing = [("decoded", same), ("a", same), ("b", same)]
    only_a = [("decoded", same), ("a", other), ("b", other)]
    only_b = [("decoded", same), ("a", same), ("b", other)]
    both = [("decoded", same), ("a", other), ("b", same)]
    assert most_varied({}, 2) == []
    assert most_varied({5: nothing}, 2) == [5]
    assert most_varied({5: nothing, 6: only_a, 7: only_a, 8: only_b}, 2) == [6, 8]
    assert most_varied({5: nothing, 6: only_a, 7: both}, 2) == [7, 5]


def test_a_batch_shows_every_view_of_a_case(tmp_path: Path) -> None:
    images = {
        "image_id": ["side", "front", *(f"alone{row}" for row in range(7))],
        "patient_id": ["p", "p", *map(str, range(7))],
        "study_id": ["1"] * 9,
        "view": ["lateral", "frontal", *["frontal"] * 7],
    }
    split, settings = tiny(tmp_path, images=images, max_views=2, train={"batch_size": 8})
    captions = [caption for _, caption in batch_tiles(split, settings)]
    assert sorted(captions) == sorted(
        ["front (view 1 of 2): no finding", "side (view 2 of 2): no finding"]
        + [f"alone{row}: {'Lung Lesion' if row % 2 == 0 else 'no finding'}" for row in range(7)]
    )
    first = captions.index("front (view 1 of 2): no finding")
    assert captions[first + 1] == "side (view 2 of 2): no finding"

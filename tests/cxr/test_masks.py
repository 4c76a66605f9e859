"""Masks as COCO's run lengths: runs, polygons, pixels, parts; what does not fill its image is refused."""

import json

import numpy as np
import pytest

from cxr.masks import (
    Mask,
    area_of,
    box_of,
    mask_of_coco,
    mask_of_pixels,
    mask_of_polygons,
    mask_of_runs,
    mask_to_coco,
    parts_of,
    pixels_of,
    resized,
    union_of,
)
from tests.paths import SAMPLES, needs_samples


def test_an_empty_mask() -> None:
    empty = mask_of_runs([], (3, 4))
    assert (empty.size_hw, area_of(empty), box_of(empty), parts_of(empty)) == ((3, 4), 0, (0, 0, 0, 0), [])
    assert not pixels_of(empty).any()


def test_runs_go_down_the_columns() -> None:
    """Five pixels outside, two inside: row 2 of column 1 and row 0 of column 2."""
    mask = mask_of_runs([5, 2], (3, 4))
    assert pixels_of(mask).tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert (area_of(mask), box_of(mask)) == (2, (1, 0, 3, 3))
    assert mask_of_runs([5, 2, 5], (3, 4)) == mask


@pytest.mark.parametrize("runs", [[5, 8], [-1, 2], [13]])
def test_runs_beyond_the_image_are_refused(runs: list[int]) -> None:
    with pytest.raises(ValueError, match="expected at most 12"):
        mask_of_runs(runs, (3, 4))


def test_polygons() -> None:
    two = mask_of_polygons([[[0, 0], [3, 0], [3, 2], [0, 2]], [[4, 2], [5, 2], [5, 3], [4, 3]]], (3, 5))
    assert pixels_of(two).tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 1]]
    assert [box_of(part) for part in parts_of(two)] == [(0, 0, 3, 2), (4, 2, 5, 3)]
    assert union_of(parts_of(two)) == two


NO_POLYGONS = [
    [],
    [[[0, 0], [1, 1]]],
    [[[0, 0, 0]] * 3],
    [[[0, 0], [1, 1], [float("nan"), 2]]],
    [[[0, 0], [1, 1], [1e12, 2]]],
]


@pytest.mark.parametrize("polygons", NO_POLYGONS)
def test_what_is_no_polygon_is_refused(polygons: list[list[list[float]]]) -> None:
    with pytest.raises(ValueError, match="polygon"):
        mask_of_polygons(polygons, (3, 5))
    with pytest.raises(ValueError, match="polygon"):
        mask_of_polygons([[[0, 0], [3, 0], [3, 2]]], (2**20, 2**20))


def test_pixels_that_touch_at_a_corner_are_one_part() -> None:
    assert len(parts_of(mask_of_pixels([[1, 0, 0, 1], [0, 1, 0, 0]]))) == 2


def test_a_mask_of_a_smaller_copy() -> None:
    mask = mask_of_pixels([[0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1], [0] * 6, [0] * 6])
    assert pixels_of(resized(mask, (2, 3))).tolist() == [[0, 1, 1], [0, 0, 0]]
    assert resized(mask, (4, 6)) is mask


def test_any_mask_survives_a_file() -> None:
    rng = np.random.default_rng(0)
    for height, width in rng.integers(1, 40, (30, 2)).tolist():
        pixels = rng.random((height, width)) < rng.random()
        mask = mask_of_pixels(pixels)
        assert mask_of_coco(json.loads(json.dumps(mask_to_coco(mask)))) == mask
        assert (pixels_of(mask) == pixels).all()


@pytest.mark.parametrize(
    "counts", ["", "00", "zz", "é", "`", "04", "525525", "ooooooooo", [5, 2], [5, "2", 5], [20, -8], 12, None]
)
def test_counts_that_do_not_fill_the_image_are_refused(counts: object) -> None:
    """pycocotools fills the rest of the image with what lies in memory."""
    with pytest.raises(ValueError, match=r"of a mask|runs of"):
        mask_of_coco({"size": [3, 4], "counts": counts})


@pytest.mark.parametrize("size", [None, [3], [3, 0], [3, "4"], [2**20, 2**20]])
def test_a_size_that_is_none_is_refused(size: object) -> None:
    with pytest.raises(ValueError, match="size"):
        mask_of_coco({"size": size, "counts": "525"})


def test_lists_of_runs_are_read() -> None:
    assert mask_of_coco({"size": [3, 4], "counts": [5, 2, 5]}) == Mask(3, 4, "525")


@pytest.mark.parametrize("counts", ["00<", [0, 0, 12], [3, 0, 9]])
def test_an_empty_run_inside_is_no_mask(counts: object) -> None:
    """pycocotools gives a box of four thousand million pixels for it."""
    mask = mask_of_coco({"size": [3, 4], "counts": counts})
    assert (mask, area_of(mask), box_of(mask)) == (mask_of_runs([], (3, 4)), 0, (0, 0, 0, 0))


def test_empty_runs_join_their_neighbours() -> None:
    assert mask_of_runs([5, 1, 0, 1, 2, 0, 3], (3, 4)) == mask_of_runs([5, 2, 5], (3, 4))


@pytest.mark.parametrize("polygon", [[[0, 0], [10**400, 0], [0, 1]], [[0, 0], [2000, 0]] * 3000])
def test_polygons_that_would_fill_the_memory_are_refused(polygon: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"polygon|outlines"):
        mask_of_polygons([polygon], (1500, 2000))


@needs_samples
def test_masks_of_chexlocalize() -> None:
    masks = json.loads((SAMPLES / "chexlocalize_gt_segmentations_val.json").read_text(encoding="utf-8"))
    first = masks["patient64541_study1_view1_frontal"]
    heart = mask_of_coco(first["Cardiomegaly"])
    assert (heart.size_hw, area_of(heart), box_of(heart)) == ((2320, 2828), 867_107, (1201, 936, 2374, 2001))
    assert area_of(mask_of_coco(first["Edema"])) == 0

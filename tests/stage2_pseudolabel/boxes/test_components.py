import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stage2_pseudolabel.boxes.components import ComponentRule, otsu_levels
from stage2_pseudolabel.boxes.rule import Found, first_boxes, nothing_found

HALF = ComponentRule("relative", 0.5, max_boxes=9, min_area=0.0)


def grid(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def found_in(cam: np.ndarray, rule: ComponentRule = HALF) -> Found:
    return rule.find(cam[None])


@pytest.mark.parametrize(
    "cam",
    [
        np.zeros((3, 5), dtype=np.float32),
        np.full((3, 5), 0.7, dtype=np.float32),
        np.full((3, 5), -1, dtype=np.float32),
        grid([-3, -2], [-1, -0.5]),
        grid([np.nan, 1], [0, 0]),
        grid([np.inf, 1], [0, 0]),
        np.zeros((0, 0), dtype=np.float32),
    ],
)
@pytest.mark.parametrize("kind", ["relative", "absolute", "percentile", "otsu"])
def test_maps_without_evidence_have_no_boxes(cam: np.ndarray, kind: str) -> None:
    found = found_in(cam, ComponentRule(kind, 0.5))
    assert found.boxes.shape == (0, 4)
    assert found.evidence.shape == found.image.shape == (0,)


def test_no_maps_no_boxes() -> None:
    assert len(HALF.find(np.zeros((0, 3, 5), dtype=np.float32))) == 0


def test_one_component_exact_box_and_evidence() -> None:
    # level 4; from 8 to 0 it is met half way between the centres, and the cell of exactly 4 ends at its own centre
    cam = grid([0, 0, 0, 0, 0], [0, 8, 4, 0, 0], [0, 0, 0, 0, 0])
    found = found_in(cam)
    np.testing.assert_allclose(found.boxes, [[1 / 5, 1 / 3, 2.5 / 5, 2 / 3]])
    np.testing.assert_allclose(found.evidence, [(8 + 4) / 2 / 8])


def test_a_component_at_the_border_reaches_it() -> None:
    found = found_in(grid([0, 0, 0, 8], [0, 0, 0, 8], [0, 0, 0, 0]))
    np.testing.assert_allclose(found.boxes, [[3 / 4, 0, 1, 2 / 3]])


def test_each_map_of_a_batch_is_as_it_is_alone() -> None:
    maps = np.random.default_rng(0).random((5, 4, 7)).astype(np.float32)
    maps[2] = 0
    together = HALF.find(maps)
    for row, cam in enumerate(maps):
        boxes, evidence = together.of(row)
        alone = found_in(cam)
        np.testing.assert_array_equal(boxes, alone.boxes)
        np.testing.assert_array_equal(evidence, alone.evidence)
    assert together.image.tolist() == sorted(together.image.tolist())


def test_components_come_strongest_first_up_to_the_limit() -> None:
    cam = grid([6, 0, 0, 0, 5], [0, 0, 0, 0, 0], [0, 0, 8, 0, 0])
    found = found_in(cam)
    np.testing.assert_allclose(found.evidence, [1, 6 / 8, 5 / 8])
    np.testing.assert_allclose(found.boxes[0], [2 / 5, 2 / 3, 3 / 5, 1])
    for limit in (1, 2):
        fewer = found_in(cam, ComponentRule("relative", 0.5, max_boxes=limit, min_area=0.0))
        np.testing.assert_array_equal(fewer.boxes, found.boxes[:limit])
        np.testing.assert_array_equal(first_boxes(found, limit).evidence, fewer.evidence)


def test_the_first_boxes_of_each_image() -> None:
    found = Found(np.array([0, 0, 3, 3, 3]), np.arange(20.0).reshape(5, 4), np.arange(5.0))
    assert first_boxes(found, 1).evidence.tolist() == [0, 2]
    assert first_boxes(found, 2).image.tolist() == [0, 0, 3, 3]
    assert len(first_boxes(nothing_found(), 1)) == 0


def test_corners_that_touch_are_together_if_the_saddle_between_them_is_above_the_level() -> None:
    # the saddle between 4, 4 and two zeros is 4 * 4 / (4 + 4) = 2, that is .5 of the maximum; with 0 and 2 it is 16 / 6
    assert len(found_in(grid([4, 0, 0], [0, 4, 0]))) == 1
    high = ComponentRule("relative", 0.6, max_boxes=9, min_area=0.0)
    assert len(found_in(grid([4, 0, 0], [0, 4, 0]), high)) == 2
    assert len(found_in(grid([0, 4, 0], [4, 0, 0]), high)) == 2
    assert len(found_in(grid([0, 4, 0], [4, 2, 0]), high)) == 1


def test_absolute_threshold_leaves_a_weak_map_alone_and_compares_images() -> None:
    rule = ComponentRule("absolute", 3.0)
    maps = np.stack([grid([2, 0, 0], [0, 0, 0]), grid([3.5, 0, 0], [0, 0, 0]), grid([6, 0, 0], [0, 0, 0])])
    found = rule.find(maps)
    assert found.image.tolist() == [1, 2]
    np.testing.assert_allclose(found.evidence, [3.5 / 6.5, 6 / 9])


def test_absolute_threshold_below_zero_takes_only_what_is_above_zero() -> None:
    found = found_in(grid([2, -1, -1], [-1, -1, -1]), ComponentRule("absolute", -5.0))
    np.testing.assert_allclose(found.boxes, [[0, 0, 1.5 / 3, 1.5 / 2]])


def test_percentile_is_of_the_maps_own_values() -> None:
    cam = grid([1, 2, 3, 4], [5, 6, 7, 8])
    # the quantile .5 is 4.5: the lower row is above it; between 1 and 5 it is met 7/8 of the way from the top centre
    found = found_in(cam, ComponentRule("percentile", 0.5))
    np.testing.assert_allclose(found.boxes, [[0, (0.5 + 0.5 / 4) / 2, 1, 1]])
    np.testing.assert_allclose(found.evidence, [6.5 / 8])


def test_otsu_is_the_best_cut_between_two_kinds_of_cells() -> None:
    np.testing.assert_allclose(otsu_levels(np.array([[0.0, 0, 1, 10, 11], [3, 3, 3, 3, 3]])), [5.5, 3])
    found = found_in(grid([0, 0, 0, 0], [0, 0, 9, 0]), ComponentRule("otsu", 1.0))
    np.testing.assert_allclose(found.boxes, [[2 / 4, 0.5, 3 / 4, 1]])
    assert len(found_in(grid([0, 0, 0, 0], [0, 0, 9, 0]), ComponentRule("otsu", 3.0))) == 0


def test_otsu_agrees_with_opencv_on_whole_numbers() -> None:
    values = np.random.default_rng(1).integers(0, 256, (20, 7, 9)).astype(np.uint8)
    ours = otsu_levels(values.reshape(20, -1).astype(np.float64))
    for level, picture in zip(ours, values, strict=True):
        theirs, _ = cv2.threshold(picture, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        np.testing.assert_array_equal(picture > level, picture > theirs)


def test_the_negatives_mean_is_taken_away_first() -> None:
    cam, background = grid([9, 0, 0, 4], [0, 0, 0, 0]), grid([8, 0, 0, 0], [0, 0, 0, 0])
    np.testing.assert_allclose(found_in(cam).boxes, [[0, 0, 1 / 4, 1 / 2]])
    found = found_in(cam, ComponentRule("relative", 0.5, background=background))
    np.testing.assert_allclose(found.boxes, [[3 / 4, 0, 1, 1 / 2]])
    assert len(found_in(background, ComponentRule("relative", 0.5, background=background))) == 0


def test_small_boxes_are_dropped() -> None:
    cam = np.zeros((10, 20), dtype=np.float32)
    cam[2, 3] = 5
    cam[5:9, 5:9] = 4
    # at level 2.5 the single cell's box is one cell, 1/200 of the map; the other 3.75 cells a side
    rule = ComponentRule("relative", 0.5, max_boxes=5, min_area=0.01)
    np.testing.assert_allclose(found_in(cam, rule).evidence, [4 / 5])
    assert len(found_in(cam)) == 2


def enlarged_boxes(cam: np.ndarray, level: float, factor: int) -> np.ndarray:
    """The same by brute force: the map enlarged bilinearly, then components of pixels."""
    height, width = cam.shape
    fine = cv2.resize(cam, (width * factor, height * factor), interpolation=cv2.INTER_LINEAR)
    _, _, stats, _ = cv2.connectedComponentsWithStats((fine >= level).astype(np.uint8), connectivity=8)
    boxes = stats[1:, :4].astype(np.float64)
    boxes[:, 2:] += boxes[:, :2]
    return boxes / np.tile([width * factor, height * factor], 2)


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 7)), elements=st.integers(0, 6).map(float)),
    st.sampled_from([0.31, 1.37, 2.27, 3.61, 5.43]),
)
def test_edges_are_those_of_the_map_enlarged_without_end(cam: np.ndarray, level: float) -> None:
    factor = 65  # odd, so that some fine pixels lie on the cells' centres
    found = found_in(cam, ComponentRule("absolute", level, max_boxes=99, min_area=0.0))
    expected = np.zeros((0, 4)) if cam.min() == cam.max() else enlarged_boxes(cam, level, factor)
    assert len(found) == len(expected)
    if len(expected):
        gaps = np.abs(found.boxes[:, None] - expected[None]) * np.tile(cam.shape[::-1], 2) * factor
        apart = gaps.max(axis=2)
        # a fine pixel's edge is at most half a pixel from where the surface meets the level
        assert max(apart.min(axis=0).max(), apart.min(axis=1).max()) <= 0.5 + 1e-3

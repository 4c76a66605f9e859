import numpy as np
import pytest

from stage2_pseudolabel.boxes_from_cam import ComponentRule, component_boxes, enlarge

HALF = ComponentRule("relative", 0.5, max_boxes=3, min_area=0.0, upsample=1)


def grid(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


@pytest.mark.parametrize(
    "cam",
    [
        np.zeros((3, 5), dtype=np.float32),
        np.full((3, 5), 0.7, dtype=np.float32),
        np.full((3, 5), -1, dtype=np.float32),
        grid([-3, -2], [-1, -0.5]),
        grid([np.nan, 1], [0, 0]),
        np.zeros((0, 0), dtype=np.float32),
    ],
)
def test_maps_without_evidence_have_no_boxes(cam: np.ndarray) -> None:
    boxes, evidence = component_boxes(cam, HALF)
    assert boxes.shape == (0, 4)
    assert evidence.shape == (0,)


def test_one_component_exact_box_and_evidence() -> None:
    cam = grid([0, 0, 0, 0, 0], [0, 8, 4, 0, 0], [0, 0, 0, 0, 0])
    boxes, evidence = component_boxes(cam, HALF)
    np.testing.assert_allclose(boxes, [[1 / 5, 1 / 3, 3 / 5, 2 / 3]])
    np.testing.assert_allclose(evidence, [(8 + 4) / 2 / 8])


def test_components_come_strongest_first_up_to_the_limit() -> None:
    cam = grid([6, 0, 0, 0, 5], [0, 0, 0, 0, 0], [0, 0, 8, 0, 0])
    boxes, evidence = component_boxes(cam, HALF)
    np.testing.assert_allclose(evidence, [1, 6 / 8, 5 / 8])
    np.testing.assert_allclose(boxes[0], [2 / 5, 2 / 3, 3 / 5, 1])
    one = ComponentRule("relative", 0.5, max_boxes=1, min_area=0.0, upsample=1)
    assert len(component_boxes(cam, one)[0]) == 1


def test_diagonal_neighbours_are_one_component() -> None:
    assert len(component_boxes(grid([4, 0, 0], [0, 4, 0]), HALF)[0]) == 1


def test_absolute_threshold_leaves_a_weak_map_alone() -> None:
    rule = ComponentRule("absolute", 3.0, upsample=1)
    assert len(component_boxes(grid([2, 0, 0], [0, 0, 0]), rule)[0]) == 0
    assert len(component_boxes(grid([4, 0, 0], [0, 0, 0]), rule)[0]) == 1


def test_absolute_threshold_below_zero_takes_only_what_is_above_zero() -> None:
    boxes, _ = component_boxes(grid([2, -1, -1], [-1, -1, -1]), ComponentRule("absolute", -5.0, upsample=1))
    np.testing.assert_allclose(boxes, [[0, 0, 1 / 3, 1 / 2]])


def test_small_components_are_dropped() -> None:
    cam = np.zeros((10, 20), dtype=np.float32)
    cam[2, 3] = 5
    cam[5:9, 5:9] = 4
    rule = ComponentRule("relative", 0.5, max_boxes=5, min_area=0.01, upsample=1)
    assert len(component_boxes(cam, rule)[0]) == 1


def test_enlarging_keeps_the_place() -> None:
    cam = np.zeros((4, 6), dtype=np.float32)
    cam[1, 2] = 1
    fine = enlarge(cam, 8)
    assert fine.shape == (32, 48)
    rows, columns = np.nonzero(fine == fine.max())
    assert rows.mean() + 0.5 == pytest.approx(1.5 * 8)
    assert columns.mean() + 0.5 == pytest.approx(2.5 * 8)

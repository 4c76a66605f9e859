"""Maps lie over the image: letterbox bars are cut off."""

import numpy as np
import pytest

from stage3_detect.serving.model.map_grid import cut_map, grid_shape, to_bytes


def test_a_grid_has_the_shape_of_the_image() -> None:
    assert grid_shape((3000, 2500)) == (128, 107)
    assert grid_shape((10, 4000)) == (1, 128)


def test_the_bars_of_a_letterbox_are_cut_off() -> None:
    """A map of 1 x 4 cells; the image covers the two in the middle."""
    values = np.array([[9.0, 1.0, 2.0, 9.0]], dtype=np.float32)
    grid = cut_map(values, np.array([0.25, 0.0, 0.75, 1.0]), (256, 128))
    assert grid.shape == (128, 64)
    assert grid[:, 16] == pytest.approx(1.0, abs=0.02)
    assert grid[:, 47] == pytest.approx(2.0, abs=0.02)


def test_a_map_becomes_bytes_of_its_own_range() -> None:
    values = np.array([[2, 3], [7, 2]], dtype=np.float32)
    blocks = np.kron(values, np.ones((64, 32), np.float32))
    assert to_bytes(blocks, (128, 64))[::64, ::32].tolist() == [[0, 51], [255, 0]]
    assert not to_bytes(np.full((3, 2), 0.7, np.float32), (30, 20)).any()

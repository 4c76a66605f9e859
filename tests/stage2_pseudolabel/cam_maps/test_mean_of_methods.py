"""The mean map of several methods."""

import numpy as np
import pytest

from stage2_pseudolabel.cam_maps.mean_of_methods import maps_of, mean_of_methods

ONE = np.zeros((1, 1, 2, 3), dtype=np.float32)
ONE[0, 0, 0, 1] = 6
"""Its root mean square is the square root of 6, the number of its cells."""


def test_no_images_give_no_maps() -> None:
    nothing = np.zeros((0, 2, 4, 6), dtype=np.float32)
    assert mean_of_methods([nothing, nothing]).shape == (0, 2, 4, 6)
    assert mean_of_methods([nothing[:, :, :0, :0]] * 2).shape == (0, 2, 0, 0)


def test_methods_count_alike_whatever_their_values() -> None:
    mean = mean_of_methods([ONE, 1000 * np.roll(ONE, 1, axis=3)])
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean[0, 0], [[0, 6**0.5 / 2, 6**0.5 / 2], [0, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_map_without_evidence_adds_nothing(value: float) -> None:
    np.testing.assert_allclose(mean_of_methods([ONE, np.full_like(ONE, value)])[0, 0, 0], [0, 6**0.5 / 2, 0], rtol=1e-6)


def test_coarser_maps_are_resized() -> None:
    fine = np.repeat(np.repeat(ONE, 2, axis=2), 2, axis=3)
    mean = mean_of_methods([ONE, fine])
    assert mean.shape == (1, 1, 4, 6)
    assert mean[0, 0, 0, 2:4].min() > 1.5 * mean[0, 0, 0, 4:].max()


def test_one_name_may_stand_for_several_methods() -> None:
    maps = {"pcam": ONE, "layercam": 2 * ONE, "dff": np.roll(ONE, 1, axis=3)}
    assert maps_of(maps, "dff") is maps["dff"]
    for name in ("maps_pcam+dff", "boxes_pcam+dff", "boxes_layercam+dff"):
        np.testing.assert_allclose(maps_of(maps, name), mean_of_methods([ONE, maps["dff"]]))

"""Pixels for the reading page."""

import numpy as np
import pytest

from stage3_detect.serving.page.pictures import shown_pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_an_image_of_one_value_is_all_zeros(dtype: type) -> None:
    shown = shown_pixels(np.full((3, 5), 1, dtype=dtype))
    assert shown.dtype == (np.uint8 if dtype is np.uint8 else np.uint16)
    assert shown.tolist() == np.zeros((3, 5), int).tolist()


def test_grey_is_stretched_to_the_range_of_the_type() -> None:
    assert shown_pixels(np.array([[10, 20, 61]], dtype=np.uint8)).tolist() == [[0, 50, 255]]
    assert shown_pixels(np.array([[100, 200, 4195]], dtype=np.uint16)).tolist() == [[0, 1600, 65535]]
    assert shown_pixels(np.array([[0.25, 0.5, 1.0]], dtype=np.float32)).tolist() == [[0, 21845, 65535]]


def test_a_large_image_is_shrunk_by_the_means_of_areas() -> None:
    image = np.array([[0, 20, 100, 100], [40, 60, 200, 200]], dtype=np.uint8)
    shown = shown_pixels(image, max_side_px=2)
    assert shown.tolist() == [[round(30 * 255 / 200), round(150 * 255 / 200)]]


def test_a_small_image_keeps_its_size() -> None:
    assert shown_pixels(np.eye(7, 9, dtype=np.uint8), max_side_px=9).shape == (7, 9)
    assert shown_pixels(np.eye(18, 9, dtype=np.uint8), max_side_px=9).shape == (9, 4)

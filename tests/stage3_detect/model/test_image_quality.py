"""The quality of an image, from its size, contrast and brightness."""

import numpy as np
import pytest

from stage3_detect.model.image_quality import quality_of


def radiograph(height: int = 400, width: int = 320) -> np.ndarray:
    """Dark air around a bright body, with all grey values."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.clip(255 * (1.2 - 1.2 * (x**2 + y**2)), 0, 250).astype(np.uint8)


def test_a_radiograph_is_fine_at_8_and_16_bits() -> None:
    assert quality_of(radiograph()).ok
    assert quality_of(radiograph().astype(np.uint16) * 16).ok


@pytest.mark.parametrize(
    ("pixels", "word"),
    [
        (radiograph(100, 90), "small"),
        (radiograph(900, 300), "strip"),
        (np.full((400, 300), 7, np.uint8), "contrast"),
        (255 - radiograph(), "inverted"),
        (np.where(radiograph() > 100, 255, radiograph()).astype(np.uint8), "black or white"),
    ],
)
def test_each_problem_has_its_reason(pixels: np.ndarray, word: str) -> None:
    quality = quality_of(pixels)
    assert not quality.ok
    assert [word in reason for reason in quality.reasons] == [True]

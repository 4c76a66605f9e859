"""Fixed rules: size, shape, contrast, saturation; and inversion for detectors without a gate of their own."""

import numpy as np
import pytest

from stage3_detect.image_quality.description import thumbnail_of
from stage3_detect.image_quality.gate import Gate
from stage3_detect.image_quality.rules import rule_codes
from stage3_detect.image_quality.verdict import GateMode


def radiograph(height: int = 400, width: int = 320) -> np.ndarray:
    """Dark air around a bright body, with all grey values."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.clip(255 * (1.2 - 1.2 * (x**2 + y**2)), 0, 250).astype(np.uint8)


def test_a_radiograph_is_fine_at_8_and_16_bits() -> None:
    for pixels in (radiograph(), radiograph().astype(np.uint16) * 16):
        assert rule_codes(pixels, thumbnail_of(pixels)) == []
        assert Gate().check(pixels).ok


@pytest.mark.parametrize(
    ("pixels", "code"),
    [
        (radiograph(100, 90), "small"),
        (radiograph(900, 300), "strip"),
        (np.full((400, 300), 7, np.uint8), "no_contrast"),
        (255 - radiograph(), "inverted"),
        (np.where(radiograph() > 100, 255, radiograph()).astype(np.uint8), "clipped"),
    ],
)
def test_each_problem_has_its_reason(pixels: np.ndarray, code: str) -> None:
    quality = Gate().check(pixels)
    assert (quality.ok, quality.codes, len(quality.reasons)) == (False, (code,), 1)


def test_the_mode_decides_what_a_problem_means() -> None:
    modes: tuple[GateMode, ...] = ("off", "warn", "abstain")
    verdicts = [Gate(mode=mode).check(radiograph(100, 90)) for mode in modes]
    assert [(one.ok, one.abstains) for one in verdicts] == [(True, False), (False, False), (False, True)]


def test_detectors_of_small_images_take_small_images() -> None:
    pixels = radiograph(100, 90)
    assert rule_codes(pixels, thumbnail_of(pixels), min_side_px=90) == []

"""A picture to the network's input: the same eight bits whatever kind of array it comes in."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr.config import UserError
from cxr.imaging.files import min_max
from cxr.imaging.geometry import Resize
from stage3_detect.model.preprocess import to_net, to_tensor_input
from stage3_detect.model.shrink import averaged_bands


def average_down(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    return np.concatenate(list(averaged_bands(image, size_hw)))


def by_definition(image: np.ndarray, image_px: int) -> np.ndarray:
    """Stretched, letterboxed, rounded, all in floating point and at full size: what `to_net` does in less time."""
    resize = Resize(image.shape, (image_px, image_px), keep_aspect=True)
    return np.round(resize.apply(min_max(image)) * 255).astype(np.uint8)


def picture(image_hw: tuple[int, int], kind: str, *, low: int, high: int) -> np.ndarray:
    rng = np.random.default_rng(sum(image_hw) + low)
    values = rng.integers(low, high + 1, size=image_hw)
    return (values / 65535).astype(np.float32) if kind == "float32" else values.astype(kind)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_no_pixel_is_the_users_mistake(kind: str):
    with pytest.raises(UserError, match="0 x 7 pixels"):
        to_net(np.zeros((0, 7), dtype=kind), 64)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_picture_is_black(kind: str, value: int):
    net, resize = to_net(np.full((20, 31), value, dtype=kind), 64)
    assert net.shape == (64, 64) and net.dtype == np.uint8 and not net.any()
    assert resize.image_hw == (20, 31)


@pytest.mark.parametrize(
    "image_hw", [(1, 1), (1, 700), (5000, 3), (4200, 4100), (33, 33), (64, 64), (20, 21)]
)
@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("uint8", 0, 255),
        ("uint8", 90, 110),
        ("uint16", 0, 65535),
        ("uint16", 40000, 40030),
        ("float32", 5, 900),
    ],
)
def test_net_picture_is_that_of_the_definition(image_hw: tuple[int, int], kind: str, low: int, high: int):
    image = picture(image_hw, kind, low=low, high=high)
    net, _ = to_net(image, 64)
    difference = np.abs(net.astype(int) - by_definition(image, 64))
    assert difference.max() <= 1  # where rounding meets a half
    assert (difference > 0).mean() < 0.02


@settings(deadline=None, max_examples=30)
@given(
    height=st.integers(1, 300), width=st.integers(1, 300), seed=st.integers(0, 99), spread=st.integers(1, 255)
)
def test_integers_and_their_floats_give_the_same(height: int, width: int, seed: int, spread: int):
    stored = np.random.default_rng(seed).integers(0, spread + 1, size=(height, width)).astype(np.uint8)
    net, _ = to_net(stored, 96)
    as_float, _ = to_net(stored / np.float32(255), 96)
    assert np.abs(net.astype(int) - as_float).max() <= 1


def test_lowest_and_highest_become_black_and_white():
    image = np.full((32, 64), 1000, dtype=np.uint16)
    image[:, :16], image[:, 48:] = 900, 1100
    net, _ = to_net(image, 64)
    assert (net[:16] == 0).all() and (net[48:] == 0).all()  # bars
    np.testing.assert_array_equal(net[20, [0, 30, 60]], [0, 128, 255])


def test_a_mirrored_view_is_taken_as_it_looks():
    image = picture((40, 60), "uint16", low=0, high=4095)
    mirrored = image[:, ::-1]
    np.testing.assert_array_equal(to_net(mirrored, 64)[0], to_net(np.ascontiguousarray(mirrored), 64)[0])


def test_the_given_picture_stays_as_it_is():
    image = picture((64, 64), "float32", low=5, high=900)  # as large as the network's: nothing is resized
    before = image.copy()
    to_net(image, 64)
    np.testing.assert_array_equal(image, before)


@given(
    old_hw=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
@settings(deadline=None, max_examples=60)
def test_averaging_is_opencvs(old_hw: tuple[int, int], shares: tuple[float, float]):
    new_hw = tuple(max(1, round(side * share)) for side, share in zip(old_hw, shares, strict=True))
    image = np.random.default_rng(sum(old_hw)).random(old_hw, dtype=np.float32)
    wanted = cv2.resize(image, new_hw[::-1], interpolation=cv2.INTER_AREA)
    found = average_down(image, new_hw)
    assert found.shape == new_hw and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted.reshape(new_hw), atol=2e-6)


def test_averages_of_a_tiny_picture():
    """Three pixels to two: the middle one counts half in both."""
    np.testing.assert_allclose(average_down(np.array([[0, 3, 9]], np.float32), (1, 2)), [[1, 7]], atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_tensor_input_is_the_picture_over_255(channels: int):
    net = np.arange(256, dtype=np.uint8).reshape(16, 16)
    tensor = to_tensor_input(net, channels)
    assert tensor.shape == (1, channels, 16, 16) and tensor.dtype == np.float32
    for channel in tensor[0]:
        np.testing.assert_array_equal(channel, net.astype(np.float32) / 255)

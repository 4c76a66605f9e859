"""An image at network size: the same eight bits for every type of array."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr.config import UserError
from cxr.imaging.files import min_max
from cxr.imaging.geometry import Resize
from cxr.imaging.network_input import NetImage, averaged_bands, to_net_image


def average_down(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    return np.concatenate(list(averaged_bands(image, size_hw)))


def by_definition(image: np.ndarray, resize: Resize) -> NetImage:
    """Stretched, resized by OpenCV and rounded, in floating point and at full size."""
    (height, width), (top, left) = resize.content_hw, resize.offset_yx
    method = cv2.INTER_AREA if height * width < image.size else cv2.INTER_LINEAR
    canvas = np.zeros(resize.net_hw, dtype=np.float32)
    content = cv2.resize(min_max(image), (width, height), interpolation=method)
    canvas[top : top + height, left : left + width] = content
    return np.round(canvas * 255).astype(np.uint8)


def to_net(image: np.ndarray, size: int, *, keep_aspect: bool = True) -> NetImage:
    """To a network input that is not square."""
    return to_net_image(image, Resize(image.shape, (size, size - 16), keep_aspect))


def picture(image_hw: tuple[int, int], kind: str, *, low: int, high: int) -> np.ndarray:
    rng = np.random.default_rng(sum(image_hw) + low)
    values = rng.integers(low, high + 1, size=image_hw)
    return (values / 65535).astype(np.float32) if kind == "float32" else values.astype(kind)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_an_image_without_pixels_is_the_users_mistake(kind: str):
    with pytest.raises(UserError, match="0 x 7 pixels"):
        to_net(np.zeros((0, 7), dtype=kind), 64)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_picture_is_black(kind: str, value: int):
    net = to_net(np.full((20, 31), value, dtype=kind), 64)
    assert net.shape == (64, 48) and net.dtype == np.uint8 and not net.any()


@pytest.mark.parametrize("image_hw", [(1, 1), (1, 700), (5000, 3), (4200, 4100), (33, 33), (64, 64), (20, 21)])
@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("uint8", 0, 255), ("uint8", 90, 110), ("uint16", 0, 65535), ("uint16", 40000, 40030), ("float32", 5, 900)],
)
@pytest.mark.parametrize("keep_aspect", [False, True])
def test_the_result_equals_the_definition_but_for_rounding(
    image_hw: tuple[int, int], kind: str, low: int, high: int, keep_aspect: bool
):
    image = picture(image_hw, kind, low=low, high=high)
    resize = Resize(image_hw, (64, 48), keep_aspect)
    difference = np.abs(to_net_image(image, resize).astype(int) - by_definition(image, resize))
    assert difference.max() <= 1  # where rounding meets a half
    assert (difference > 0).mean() < 0.05


@settings(deadline=None, max_examples=30)
@given(height=st.integers(1, 300), width=st.integers(1, 300), seed=st.integers(0, 99), spread=st.integers(1, 255))
def test_integers_and_their_floats_give_the_same(height: int, width: int, seed: int, spread: int):
    stored = np.random.default_rng(seed).integers(0, spread + 1, size=(height, width)).astype(np.uint8)
    net = to_net(stored, 96)
    as_float = to_net(stored / np.float32(255), 96)
    assert np.abs(net.astype(int) - as_float).max() <= 1


def test_lowest_and_highest_become_black_and_white():
    image = np.full((32, 64), 1000, dtype=np.uint16)
    image[:, :16], image[:, 48:] = 900, 1100
    net = to_net_image(image, Resize((32, 64), (64, 64), keep_aspect=True))
    assert (net[:16] == 0).all() and (net[48:] == 0).all()  # bars
    np.testing.assert_array_equal(net[20, [0, 30, 60]], [0, 128, 255])


def test_a_mirrored_view_is_taken_as_it_looks():
    image = picture((40, 60), "uint16", low=0, high=4095)
    mirrored = image[:, ::-1]
    np.testing.assert_array_equal(to_net(mirrored, 64), to_net(np.ascontiguousarray(mirrored), 64))


def test_the_given_picture_stays_as_it_is():
    image = picture((64, 64), "float32", low=5, high=900)  # as large as the network's: nothing is resized
    before = image.copy()
    to_net(image, 64)
    np.testing.assert_array_equal(image, before)


@given(old_hw=st.tuples(st.integers(1, 200), st.integers(1, 200)), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
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


@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize("image_hw", [(300, 200), (120, 400)])
def test_a_bright_box_lands_where_the_geometry_says(image_hw: tuple[int, int], keep_aspect: bool) -> None:
    image = np.zeros(image_hw, dtype=np.float32)
    image[40:80, 50:120] = 1
    resize = Resize(image_hw, (160, 224), keep_aspect)
    lit = np.argwhere(to_net_image(image, resize) > 127)
    x1, y1, x2, y2 = resize.boxes_to_net([[50, 40, 120, 80]])[0]
    found = [lit[:, 1].min(), lit[:, 0].min(), lit[:, 1].max() + 1, lit[:, 0].max() + 1]
    np.testing.assert_allclose(found, [x1, y1, x2, y2], atol=1)


def test_letterbox_centres_and_fills_with_black() -> None:
    resize = Resize((10, 40), (20, 20), keep_aspect=True)
    image = np.ones((10, 40), dtype=np.float32)
    image[0, 0] = 0
    net = to_net_image(image, resize)
    assert (net > 0).sum() == 5 * 20
    assert net[7:12].min() > 0

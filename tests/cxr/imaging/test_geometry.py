import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr.imaging.geometry import Resize

SIDES = st.integers(16, 4000)


@given(
    image_h=SIDES,
    image_w=SIDES,
    net_h=st.integers(32, 1024),
    net_w=st.integers(32, 1024),
    keep_aspect=st.booleans(),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_box_to_network_and_back_is_the_same_box(
    image_h: int, image_w: int, net_h: int, net_w: int, keep_aspect: bool, corners: tuple[float, ...]
) -> None:
    resize = Resize((image_h, image_w), (net_h, net_w), keep_aspect)
    box = np.array([corners]) * [image_w, image_h, image_w, image_h]
    np.testing.assert_allclose(resize.boxes_to_image(resize.boxes_to_net(box)), box, atol=1e-6)


@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize("image_hw", [(300, 200), (120, 400)])
def test_a_bright_box_lands_where_the_geometry_says(image_hw: tuple[int, int], keep_aspect: bool) -> None:
    image = np.zeros(image_hw, dtype=np.float32)
    image[40:80, 50:120] = 1
    resize = Resize(image_hw, (160, 224), keep_aspect)
    lit = np.argwhere(resize.apply(image) > 0.5)
    x1, y1, x2, y2 = resize.boxes_to_net([[50, 40, 120, 80]])[0]
    found = [lit[:, 1].min(), lit[:, 0].min(), lit[:, 1].max() + 1, lit[:, 0].max() + 1]
    np.testing.assert_allclose(found, [x1, y1, x2, y2], atol=1)


def test_letterbox_centres_and_fills_with_black() -> None:
    resize = Resize((10, 40), (20, 20), keep_aspect=True)
    assert resize.content_hw == (5, 20)
    assert resize.offset_yx == (7, 0)
    out = resize.apply(np.ones((10, 40), dtype=np.float32))
    assert out.sum() == 5 * 20
    assert out[7:12].min() == 1


def test_no_boxes() -> None:
    assert Resize((10, 20), (5, 5)).boxes_to_net([]).shape == (0, 4)

import numpy as np
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


def test_letterbox_is_centred() -> None:
    resize = Resize((10, 40), (20, 20), keep_aspect=True)
    assert resize.content_hw == (5, 20)
    assert resize.offset_yx == (7, 0)


def test_no_boxes() -> None:
    assert Resize((10, 20), (5, 5)).boxes_to_net([]).shape == (0, 4)

"""The detector's input: letterboxed squares, and tensors of them."""

import numpy as np
import pytest

from cxr.config import UserError
from cxr.imaging.geometry import Resize
from cxr.imaging.network_input import to_net_image
from stage3_detect.model.network import to_net, to_tensor_input


def test_an_image_without_pixels_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="0 x 7 pixels"):
        to_net(np.zeros((0, 7), dtype=np.uint16), 64)


def test_images_are_letterboxed_to_a_square() -> None:
    image = np.random.default_rng(0).integers(0, 4096, (90, 70)).astype(np.uint16)
    net, resize = to_net(image, 64)
    assert resize == Resize((90, 70), (64, 64), keep_aspect=True)
    np.testing.assert_array_equal(net, to_net_image(image, resize))


@pytest.mark.parametrize("channels", [1, 3])
def test_tensor_input_is_the_picture_over_255(channels: int):
    net = np.arange(256, dtype=np.uint8).reshape(16, 16)
    tensor = to_tensor_input(net, channels)
    assert tensor.shape == (1, channels, 16, 16) and tensor.dtype == np.float32
    for channel in tensor[0]:
        np.testing.assert_array_equal(channel, net.astype(np.float32) / 255)

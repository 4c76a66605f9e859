"""From an image to the classifier's 8-bit picture: resized, and equalised if the settings say so. Needs no torch."""

import cv2
import numpy as np

from cxr.imaging.files import Pixels
from cxr.imaging.geometry import Resize
from cxr.imaging.network_input import NetImage, to_net_image
from cxr.imaging.settings import InputSettings

_CLAHE3_CLIPS = (2.0, 4.0)
_CLAHE_TILES = (8, 8)


def resize_of(settings: InputSettings, image_hw: tuple[int, int]) -> Resize:
    """The transform from an image of this size to the network's input."""
    return Resize(image_hw, settings.size_hw, settings.keep_aspect)


def picture_of(image: Pixels, settings: InputSettings) -> NetImage:
    """The picture of an image (H, W): (h, w) uint8, or (h, w, 3) with channels: clahe3; see `to_net_image`."""
    return equalised(to_net_image(image, resize_of(settings, (image.shape[0], image.shape[1]))), settings)


def central(picture: NetImage, settings: InputSettings) -> NetImage:
    """What the network sees of a picture outside of training: its centre with crop_hw, else all of it; a view."""
    (height, width), (crop_h, crop_w) = picture.shape[:2], settings.net_hw
    if settings.crop_hw is None:
        return picture
    top, left = (height - crop_h) // 2, (width - crop_w) // 2
    return picture[top : top + crop_h, left : left + crop_w]


def equalised(picture: NetImage, settings: InputSettings) -> NetImage:
    """A grey picture (h, w) after the equalisation that the settings ask for: (h, w), or (h, w, 3) with clahe3."""
    if settings.channels == "clahe3":
        return np.stack([picture, *(_clahe(picture, clip) for clip in _CLAHE3_CLIPS)], axis=-1)
    return picture if settings.clahe_clip is None else _clahe(picture, settings.clahe_clip)


def _clahe(picture: NetImage, clip: float) -> NetImage:
    equalised: NetImage = cv2.createCLAHE(clip, _CLAHE_TILES).apply(picture)
    return equalised

"""Radiographs of a data set as pictures of a report, and short names for their captions."""

from collections.abc import Sequence

import cv2

from cxr.imaging.files import GrayImage, min_max, read_image
from cxr.tables import Dataset
from eval.report.pictures import Rgb, as_rgb


def radiograph_of(data: Dataset, row: int, longest_px: int) -> Rgb:
    """The image of a row as in its file: scaled to its own value range, in its own aspect ratio.

    Raises:
        UserError: the file cannot be decoded.
    """
    image = data.images.iloc[row]
    return reduced(min_max(read_image(data.root / image["path"], region=image["region"])), longest_px)


def reduced(image: GrayImage, longest_px: int) -> Rgb:
    """Grey in [0, 1], reduced if its longer side exceeds `longest_px`."""
    scale = longest_px / max(image.shape)
    if scale < 1:
        size_wh = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)
    return as_rgb(image)


def short_ids(image_ids: Sequence[str], *, length: int = 20) -> list[str]:
    """The ends of the ids: `length` characters, or as many more as make them unique."""
    different = set(image_ids)
    longest = max(map(len, different), default=0)
    while length < longest and len({name[-length:] for name in different}) < len(different):
        length += 1
    return [name if len(name) <= length + 1 else "…" + name[-length:] for name in image_ids]

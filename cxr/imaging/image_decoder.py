"""Decodes the images of a data set for the classifier, with a hash of what they show."""

import os
from pathlib import Path

from cxr.imaging.content_hash import content_hash
from cxr.imaging.equalise import equalised, picture_of, resize_of
from cxr.imaging.files import Pixels, Region, read_pixels
from cxr.imaging.network_input import NetImage, to_net_image
from cxr.imaging.settings import InputSettings
from cxr.tables import Dataset


class ImageDecoder:
    """Decodes the images of a data set, by row, to uint8 at network size.

    Raises:
        UserError: (when called) the image cannot be decoded.
    """

    def __init__(self, dataset: Dataset, settings: InputSettings) -> None:
        self.image_ids: list[str] = dataset.images["image_id"].tolist()
        self.shape: tuple[int, ...] = settings.size_hw
        if settings.channels == "clahe3":
            self.shape = (*settings.size_hw, 3)
        self._root = os.path.abspath(dataset.root)  # noqa: PTH100  resolve() would ask the disk
        self._rows = dataset.images[["path", "region"]].to_numpy()
        self._settings = settings

    def file(self, row: int) -> tuple[str, str]:
        """Absolute path and region of the image in a row."""
        path, region = self._rows[row]
        return f"{self._root}/{path}", region

    def __call__(self, row: int, /) -> NetImage:
        return picture_of(self._image(row), self._settings)

    def with_hash(self, row: int, /) -> tuple[NetImage, str]:
        """The picture and `content_hash` of the image, which does not depend on letterbox bars and equalisation."""
        image = self._image(row)
        resize = resize_of(self._settings, (image.shape[0], image.shape[1]))
        grey = to_net_image(image, resize)
        return equalised(grey, self._settings), content_hash(resize.content(grey))

    def _image(self, row: int) -> Pixels:
        path, region = self.file(row)
        return read_pixels(Path(path), region=_as_region(region))


def _as_region(text: str) -> Region:
    regions: dict[str, Region] = {"full": "full", "left": "left", "right_mirrored": "right_mirrored"}
    return regions[text]

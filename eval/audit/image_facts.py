"""What the audit measures of each image: size, exposure, a hash of what it shows, and a thumbnail.

All images are decoded once; results are kept in a picture cache, so that an audit that was interrupted goes on and a
second one is fast.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pandas as pd

from cxr.imaging.cache import PictureCache
from cxr.imaging.content_hash import content_hash
from cxr.imaging.files import Pixels, Region, read_pixels
from cxr.imaging.geometry import Resize
from cxr.imaging.image_decoder import ImageDecoder
from cxr.imaging.network_input import NetImage, to_net_image
from cxr.imaging.settings import InputSettings
from cxr.tables import Dataset

FORMAT = 1
"""Version of the facts. A new number keeps cached facts of older versions from being used."""

THUMBNAIL_PX = 64
_MEASURED_PX = 256
_MARGIN = 5
"""Grey levels of 255 that count as black or as white."""

COLUMNS = ("hash", "height", "width", "range", "mean", "contrast", "black", "white")
"""hash: see `content_hash`. height, width: pixels. range: share of the file's grey levels between its darkest and
brightest pixel (1 for DICOM, whose window is applied). The others are of the picture as a network sees it, stretched
to 0 to 255 and reduced: mean and contrast (standard deviation) in [0, 1], shares of black and of white pixels."""


@dataclass(frozen=True)
class ImageFacts:
    """table: `COLUMNS` of each image that can be decoded, by image id. thumbnails: (N, 64, 64) of the same rows.
    problems: path of each other file -> why it cannot be decoded."""

    table: pd.DataFrame
    thumbnails: NetImage
    problems: Mapping[str, str]


def measure_images(data: Dataset, cache_dir: Path, *, progress: bool = False) -> ImageFacts:
    """Decode each image and measure it.

    Raises:
        UserError: `cache_dir` cannot be written.
    """
    decoder = _Measurer(data)
    cache = PictureCache(cache_dir / f"audit_v{FORMAT}", decoder, progress=progress)
    good = [row for row in range(len(data.images)) if row not in cache.problems]
    rows = [json.loads(cache.hashes[row]) for row in good]
    table = pd.DataFrame(rows, columns=list(COLUMNS), index=pd.Index([decoder.image_ids[row] for row in good]))
    numbers = {name: np.float64 for name in COLUMNS if name != "hash"}
    thumbnails = np.zeros((len(good), *decoder.shape), dtype=np.uint8)
    for place, row in enumerate(good):
        thumbnails[place] = cache[row]
    paths = data.images["path"]
    problems = {str(paths.iloc[row]): reason for row, reason in cache.problems.items()}
    return ImageFacts(table.astype(numbers), thumbnails, problems)


class _Measurer:
    """Decodes for the picture cache; what the cache keeps as hash is a row of facts as JSON."""

    shape = (THUMBNAIL_PX, THUMBNAIL_PX)

    def __init__(self, data: Dataset) -> None:
        self.image_ids: list[str] = data.images["image_id"].tolist()
        self.file = ImageDecoder(data, InputSettings()).file

    def with_hash(self, row: int, /) -> tuple[NetImage, str]:
        """The thumbnail, and the facts."""
        path, region = self.file(row)
        pixels = read_pixels(Path(path), region=cast(Region, region))
        picture = to_net_image(pixels, Resize(_size_hw(pixels), (_MEASURED_PX, _MEASURED_PX), keep_aspect=False))
        thumbnail = cv2.resize(picture, self.shape, interpolation=cv2.INTER_AREA)
        return np.asarray(thumbnail, dtype=np.uint8), json.dumps(_facts(pixels, picture))


def _facts(pixels: Pixels, picture: NetImage) -> list[str | float]:
    height, width = _size_hw(pixels)
    low, high, _, _ = cv2.minMaxLoc(pixels)
    levels = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    shares = [(picture <= _MARGIN).mean(), (picture >= 255 - _MARGIN).mean()]
    numbers = [(high - low) / levels, picture.mean() / 255, picture.std() / 255, *shares]
    return [content_hash(picture), height, width, *(round(float(number), 6) for number in numbers)]


def _size_hw(pixels: Pixels) -> tuple[int, int]:
    return pixels.shape[0], pixels.shape[1]

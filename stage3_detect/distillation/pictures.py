"""The pictures of a distillation: letterboxed to one frame, decoded once, in a cache of their own."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from cxr.coco import CocoBoxes
from cxr.config import UserError
from cxr.imaging.cache import PictureCache
from cxr.imaging.files import Region, read_pixels
from cxr.imaging.geometry import Resize
from cxr.imaging.network_input import NetImage, to_net_image
from cxr.tables import SHOWN_PROBLEMS, OnProblem
from stage3_detect.distillation.student import STRIDES

log = logging.getLogger("raybox")


def frame_of(images: CocoBoxes, image_px: int) -> tuple[int, int]:
    """Height and width of the smallest frame that holds every image at the scale of a square letterbox of `image_px`.

    The detector sees its images in squares. A frame without bars that all images share saves the classifier's time.
    Both sides are multiples of the largest stride.

    Raises:
        UserError: there is no image.
    """
    sizes = images.images[["height", "width"]].drop_duplicates().itertuples(index=False)
    square = (image_px, image_px)
    contents = [Resize((int(height), int(width)), square, keep_aspect=True).content_hw for height, width in sizes]
    if not contents:
        raise UserError("distillation: there is no training image; check the stage 2 run")
    cell = max(STRIDES)
    height, width = (math.ceil(max(sides) / cell) * cell for sides in zip(*contents, strict=True))
    return height, width


def open_pictures(
    folder: Path, images: CocoBoxes, frame_hw: tuple[int, int], *, on_problem: OnProblem
) -> tuple[PictureCache, list[int]]:
    """The pictures by row, decoded into `folder` where they are missing, and the rows that can be used.

    Raises:
        UserError: images cannot be read and on_problem is "error", or none can be.
    """
    cache = PictureCache(folder, _Decoder(images, frame_hw), progress=True)
    _report_problems(list(cache.problems.values()), len(images.images), on_problem)
    return cache, [row for row in range(len(images.images)) if row not in cache.problems]


class _Decoder:
    """Decodes the image of a row to (h, w) uint8 of the frame; see `cxr.imaging.cache.Decoder`."""

    def __init__(self, images: CocoBoxes, frame_hw: tuple[int, int]) -> None:
        self.image_ids = [str(image_id) for image_id in images.images["image_id"]]
        self.shape = frame_hw
        root = Path(str(images.info["data_root"])).absolute()
        self._files = [root / path for path in images.images["path"]]
        self._regions: list[Region] = images.images["region"].tolist()

    def file(self, row: int) -> tuple[str, str]:
        return str(self._files[row]), self._regions[row]

    def with_hash(self, row: int, /) -> tuple[NetImage, str]:
        image = read_pixels(self._files[row], region=self._regions[row])
        return to_net_image(image, Resize((image.shape[0], image.shape[1]), self.shape, keep_aspect=True)), ""


def _report_problems(problems: Sequence[str], num_images: int, on_problem: OnProblem) -> None:
    if problems and (on_problem == "error" or len(problems) == num_images):
        advice = "repair them, or skip them with --set data.on_problem=exclude and another --out"
        lines = [f"stage 3: {problem}" for problem in problems[:SHOWN_PROBLEMS]]
        raise UserError([*lines, f"stage 3: {len(problems)} of {num_images} images cannot be read; {advice}"])
    for problem in problems:
        log.warning("stage3: distillation: excluded: %s", problem)

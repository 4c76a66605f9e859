"""The pictures of a distillation: decoded once, as 8 bits in one memory-mapped file."""

import logging
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr.coco import CocoBoxes
from cxr.config import UserError
from cxr.imaging.files import read_pixels
from cxr.imaging.geometry import Resize
from cxr.imaging.network_input import NetImage, to_net_image
from cxr.progress import track
from cxr.tables import SHOWN_PROBLEMS, OnProblem

PICTURES = "pictures.npy"

_CELL_PX = 32
"""Sides are multiples of the largest stride."""
_NUM_THREADS = 4

log = logging.getLogger("raybox")


def frame_of(images: CocoBoxes, image_px: int) -> tuple[int, int]:
    """Height and width of the smallest frame that holds every image at the scale of a square letterbox of `image_px`.

    The detector sees its images in squares. Frames without bars that all images share save the classifier's time.
    """
    square = (image_px, image_px)
    sizes = images.images[["height", "width"]].drop_duplicates().itertuples(index=False)
    contents = [Resize((int(height), int(width)), square, keep_aspect=True).content_hw for height, width in sizes]
    height, width = (math.ceil(max(sides) / _CELL_PX) * _CELL_PX for sides in zip(*contents, strict=True))
    return height, width


def write_pictures(
    path: Path, images: CocoBoxes, frame_hw: tuple[int, int], *, on_problem: OnProblem
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Decode and letterbox all images into `path`, an array file (N, H, W), which is replaced as a whole.

    Returns:
        the file as a read-only array, and (N,) whether each image could be read; others are black.

    Raises:
        UserError: images cannot be read and on_problem is "error", or none can be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    shape = (len(images.images), *frame_hw)
    pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    root = Path(str(images.info["data_root"]))

    def fill(numbered: tuple[int, Any]) -> str | None:
        number, row = numbered
        try:
            pixels[number] = _picture(root / row.path, row.region, frame_hw)
        except UserError as error:
            return f"image {row.image_id}: {' '.join(error.problems)}"
        return None

    rows = list(enumerate(images.images.itertuples(index=False)))
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        reasons = list(track(pool.map(fill, rows), "decoding", total=len(rows)))
    _report_problems([reason for reason in reasons if reason is not None], len(rows), on_problem)
    pixels.flush()
    partial.replace(path)
    return np.load(path, mmap_mode="r"), np.array([reason is None for reason in reasons], dtype=np.bool_)


def _picture(file: Path, region: Any, frame_hw: tuple[int, int]) -> NetImage:
    image = read_pixels(file, region=region)
    return to_net_image(image, Resize((image.shape[0], image.shape[1]), frame_hw, keep_aspect=True))


def _report_problems(problems: list[str], num_images: int, on_problem: OnProblem) -> None:
    if problems and (on_problem == "error" or len(problems) == num_images):
        advice = "repair them, or skip them with --set data.on_problem=exclude and another --out"
        lines = [f"stage 3: {problem}" for problem in problems[:SHOWN_PROBLEMS]]
        raise UserError([*lines, f"stage 3: {len(problems)} of {num_images} images cannot be read; {advice}"])
    for problem in problems:
        log.warning("stage3: distillation: excluded %s", problem)

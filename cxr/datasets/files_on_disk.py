"""The files of a data set: whether they exist, and the sizes of the images. No pixels are read."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxr.config import UserError
from cxr.imaging.files import read_size_hw
from cxr.threads import in_threads

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".dicom", ".dcm")


def require_folder(root: Path, *, source: str) -> None:
    """UserError if the data set's folder does not exist."""
    if not root.is_dir():
        raise UserError(f"{source}: no folder {root}; set `root` to where the release is unpacked")


def files_exist(root: Path, paths: Iterable[str]) -> npt.NDArray[np.bool_]:
    """(N,) True for each path under `root` that exists. 223,000 files take a second on a local disk.

    One look-up per file is faster than walking the folders, since CheXpert has one folder per one or two images.
    """
    prefix = str(root)

    def look_up(part: list[str]) -> list[bool]:
        return [os.access(f"{prefix}/{path}", os.F_OK) for path in part]

    return np.array(in_threads(look_up, paths), dtype=bool)


def read_sizes(root: Path, paths: Iterable[str]) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Height and width of each image from its header, in threads.

    Returns:
        path -> (height, width) of the readable files, and path -> reason for the others.
    """

    def measure(part: list[str]) -> list[tuple[str, tuple[int, int] | str]]:
        return [(path, _size_or_reason(root / path)) for path in part]

    measured = in_threads(measure, dict.fromkeys(paths))
    sizes = {path: size for path, size in measured if not isinstance(size, str)}
    return sizes, {path: reason for path, reason in measured if isinstance(reason, str)}


def _size_or_reason(path: Path) -> tuple[int, int] | str:
    try:
        return read_size_hw(path)
    except UserError as error:
        return str(error)


def images_by_stem(folder: Path) -> dict[str, str]:
    """Stem -> name of the image file in one folder; empty if the folder does not exist.

    If several files have the same stem, the suffix that comes first in `IMAGE_SUFFIXES` wins.
    """
    if not folder.is_dir():
        return {}
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    names.sort(key=lambda name: -IMAGE_SUFFIXES.index(Path(name).suffix.lower()))
    return {Path(name).stem: name for name in names}


def find_images(root: Path) -> dict[str, list[str]]:
    """Every image file under `root` by file name: name -> paths relative to `root`, sorted. One walk."""
    found: dict[str, list[str]] = {}
    for folder, folders, names in os.walk(root):
        folders.sort()
        relative = Path(folder).relative_to(root)
        for name in sorted(names):
            if name.lower().endswith(IMAGE_SUFFIXES):
                found.setdefault(name, []).append((relative / name).as_posix())
    return found

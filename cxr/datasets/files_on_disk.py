"""The files of a data set: whether they exist, and the sizes of the images. No pixels are read."""

import logging
import os
import posixpath
import stat
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxr.config import UserError
from cxr.imaging.files import read_header
from cxr.threads import in_threads

log = logging.getLogger("raybox")

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".dicom", ".dcm")


def require_folder(root: Path, *, source: str, holds: str = "the release is unpacked") -> None:
    """UserError if the data set's folder does not exist. holds: what is in it, for the message."""
    if not root.is_dir():
        raise UserError(f"{source}: no folder {root}; set `data.root` to where {holds}")


def files_exist(root: Path, paths: Iterable[str]) -> npt.NDArray[np.bool_]:
    """(N,) True for each path under `root` that exists and is no folder, as a blank path is.

    223,000 files take a second on a local disk.

    One look-up per file is faster than walking the folders, since CheXpert has one folder per one or two images.
    """
    prefix = str(root)

    def look_up(part: list[str]) -> list[bool]:
        return [_exists(f"{prefix}/{path}") for path in part]

    return np.array(in_threads(look_up, paths), dtype=bool)


def _exists(path: str) -> bool:
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116  a Path for each takes longer
    except (OSError, ValueError):  # no file has such a name: a NUL in a list, half a pair of surrogates in JSON
        return False


def with_other_spelling(root: Path, path: str) -> str:
    """The path of a missing file, with a hint where a file has the same name in another Unicode form: macOS stores é as
    e and an accent, which looks the same."""
    forms = {unicodedata.normalize(form, path) for form in ("NFC", "NFD")} - {path}
    if any(_exists(f"{root}/{form}") for form in forms):
        return f"{path} (a file has this name with its accents in another Unicode form; rename it)"
    return path


@dataclass(frozen=True)
class Sizes:
    """hw: path -> height and width. reasons: path -> why it cannot be read. num_turned: upright by EXIF data alone."""

    hw: dict[str, tuple[int, int]]
    reasons: dict[str, str]
    num_turned: int


def read_sizes(root: Path, paths: Iterable[str]) -> Sizes:
    """The size of each upright image from its header, in threads."""

    def measure(part: list[str]) -> list[tuple[str, tuple[tuple[int, int], bool] | str]]:
        return [(path, _header_or_reason(root / path)) for path in part]

    measured = in_threads(measure, dict.fromkeys(paths))
    headers = {path: header for path, header in measured if not isinstance(header, str)}
    return Sizes(
        hw={path: size for path, (size, _) in headers.items()},
        reasons={path: reason for path, reason in measured if isinstance(reason, str)},
        num_turned=sum(is_turned for _, is_turned in headers.values()),
    )


def _header_or_reason(path: Path) -> tuple[tuple[int, int], bool] | str:
    try:
        return read_header(path)
    except UserError as error:
        return str(error)


def images_by_stem(folder: Path) -> dict[str, str]:
    """Stem -> name of the image file in one folder; empty if the folder does not exist.

    If several files have the same stem, the suffix that comes first in `IMAGE_SUFFIXES` wins.
    """
    if not folder.is_dir():
        return {}
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    names.sort(key=lambda name: -_rank(name))
    return {Path(name).stem: name for name in names}


def find_images(root: Path) -> dict[str, str]:
    """Stem -> path of the image file relative to `root`, of every image file under `root`. One walk.

    If several files have the same stem, the suffix that comes first in `IMAGE_SUFFIXES` wins, then the first folder.
    The log says when they are in several folders, where one may be a mask or an older copy.
    """
    found: dict[str, str] = {}
    others: dict[str, str] = {}
    for folder, folders, names in os.walk(root):
        folders.sort()
        start = Path(folder).relative_to(root).as_posix()
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)  # noqa: PTH122  a Path for each takes longer
            if suffix.lower() not in IMAGE_SUFFIXES:
                continue
            path = name if start == "." else f"{start}/{name}"
            if stem in found and posixpath.dirname(found[stem]) != posixpath.dirname(path):
                others[stem] = found[stem] if _rank(name) < _rank(found[stem]) else path
            if stem not in found or _rank(name) < _rank(found[stem]):
                found[stem] = path
    if others:
        stem = min(others)
        log.warning(
            "data: %d names of images are in several folders of %s; of %s and %s, for instance, the first is used",
            *(len(others), root, found[stem], others[stem]),
        )
    return found


def _rank(path: str) -> int:
    return IMAGE_SUFFIXES.index(Path(path).suffix.lower())

"""Find the files of corrected images: the service knows their hash, and their name on the reader's computer."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cxr.config import UserError
from cxr.imaging.files import read_size_hw
from cxr.imaging.listing import find_images
from cxr.runs.provenance import sha256_of
from cxr.threads import in_threads
from stage3_detect.serving.corrections.record import SavedReading

log = logging.getLogger("raybox")


@dataclass
class FoundFiles:
    """files: image sha256 -> its file. by_name: images whose file has the name and size, but another hash.
    problems: image sha256 -> why it has no file."""

    files: dict[str, Path] = field(default_factory=dict)
    by_name: set[str] = field(default_factory=set)
    problems: dict[str, str] = field(default_factory=dict)


def find_files(wanted: Mapping[str, SavedReading], stored: Path, folder: Path | None) -> FoundFiles:
    """The file of each image: as the service stored it, else in `folder` by hash, else there by name and size.

    Args:
        wanted: image sha256 -> a reading of it. stored: the service's own images; may not exist. folder: the hospital's
            images, searched recursively; None searches none. A file of the same name is tried first, so the other files
            are read only if one is missing.

    Raises:
        UserError: `folder` does not exist or has no image.
    """
    found = FoundFiles()
    others = [] if folder is None else [image.path for image in find_images([folder]).files if image.path.is_file()]
    for path in sorted(stored.glob("*.*")) if stored.is_dir() else []:
        if path.stem in wanted:
            found.files[path.stem] = path
    names = {PurePosixPath(reading.name).name for reading in wanted.values()}
    namesakes = [path for path in others if path.name in names]
    _match(found, wanted, namesakes)
    if len(found.files) < len(wanted) and len(namesakes) < len(others):
        log.info("corrections: comparing the hashes of %d files", len(others) - len(namesakes))
        _match(found, wanted, [path for path in others if path.name not in names])
    for image, reading in wanted.items():
        if image not in found.files:
            _match_by_name(found, image, reading, namesakes)
    _check_sizes(found, wanted)
    return found


def _match(found: FoundFiles, wanted: Mapping[str, SavedReading], paths: Sequence[Path]) -> None:
    hashes = in_threads(lambda part: [sha256_of(path) for path in part], paths)
    for path, digest in zip(paths, hashes, strict=True):
        if digest in wanted:
            found.files.setdefault(digest, path)


def _match_by_name(found: FoundFiles, image: str, reading: SavedReading, namesakes: Iterable[Path]) -> None:
    """The one file of that name, for images that were exported again and changed a byte of their header."""
    alike = [path for path in namesakes if path.as_posix().endswith(f"/{reading.name}")]
    if len(alike) == 1:
        found.files[image] = alike[0]
        found.by_name.add(image)
    else:
        found.problems[image] = "no file with its hash or name" if not alike else f"{len(alike)} files with its name"


def _check_sizes(found: FoundFiles, wanted: Mapping[str, SavedReading]) -> None:
    """Boxes on a picture of another size would be wrong everywhere."""
    for image, path in list(found.files.items()):
        expected = (wanted[image].height_px, wanted[image].width_px)
        try:
            size = read_size_hw(path)
        except UserError as error:
            reason = str(error)
        else:
            reason = "" if size == expected else f"{path} has {size} pixels (height, width), the reader saw {expected}"
        if reason:
            found.problems[image] = reason
            del found.files[image]
            found.by_name.discard(image)

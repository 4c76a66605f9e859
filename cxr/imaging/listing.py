"""The radiographs that a command line names: files and folders, each image with a unique id; and where the results of
such a command go."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr.config import UserError
from cxr.imaging.files import DICOM_SUFFIXES, RASTER_SUFFIXES, is_dicom

_INDEX_OF_A_DISC = "DICOMDIR"
"""Index of a DICOM disc: begins like a DICOM file, but holds no image."""

_NAMED_OTHERS = 3


@dataclass(frozen=True)
class ImageFile:
    """A file to read.

    file_name: relative to `Listing.root`. image_id: unique in the listing; the file name without its ending, or with it
    where two files differ only in their endings.
    """

    path: Path
    file_name: str
    image_id: str


@dataclass(frozen=True)
class Listing:
    """The files, sorted by name.

    root: the deepest common folder of all given paths; relative to the working folder if all paths are relative.
    num_other: other files in the given folders. first_others: names of the first of them.
    """

    files: tuple[ImageFile, ...]
    root: str
    num_other: int
    first_others: tuple[str, ...] = ()


def find_images(given: Sequence[Path]) -> Listing:
    """List the given files, and search the given folders recursively for PNG, JPEG and DICOM files. DICOM files are
    recognised by their ending or by their content.

    Hidden files are ignored. A file that is given twice is listed once.

    Raises:
        UserError: paths that do not exist, or folders without an image; all of them named.
        OSError: a folder that must not be listed.
    """
    problems: list[str] = []
    found: dict[str, Path] = {}
    other: list[Path] = []
    for path in given:
        if not path.exists():
            problems.append(f"images: no file or folder {path}; check the path")
            continue
        files = list(_files_below(path)) if path.is_dir() else [path]
        images = [file for file in files if _is_image(file)] if path.is_dir() else files
        others = sorted(set(files) - set(images))
        if not images:
            problems.append(
                f"images: no PNG, JPEG or DICOM file in {path} or below ({len(others)} other files); give "
                "another folder"
            )
        other += others
        found |= {_absolute(image): image for image in images}
    if problems:
        raise UserError(problems)
    return _listing(given, found, other)


def _files_below(folder: Path) -> Iterator[Path]:
    """Every file, also through links to folders; each folder once."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a parent, or a second link to the same folder
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place) / name for name in names)


def _raise(error: OSError) -> None:
    raise error  # os.walk would skip the folder silently


def _is_image(path: Path) -> bool:
    if path.name.startswith(".") or path.name == _INDEX_OF_A_DISC:
        return False
    if path.suffix.lower() in DICOM_SUFFIXES | RASTER_SUFFIXES:
        return True
    if not path.is_file():  # opening a pipe would wait for ever
        return False
    try:
        return is_dicom(path)
    except UserError:  # no rights: it may be an image, so that reading it has to name the problem
        return True


def _listing(given: Sequence[Path], found: dict[str, Path], other: Sequence[Path]) -> Listing:
    tops = [path if path.is_dir() else path.parent for path in given]
    root = os.path.commonpath([_absolute(top) for top in tops])
    names = {os.path.relpath(absolute, root): path for absolute, path in found.items()}
    ordered = sorted(names, key=lambda name: Path(name).parts)
    ids = [_without_ending(name) for name in ordered]
    if len(set(ids)) < len(ids):
        ids = ordered
    shown = root if any(path.is_absolute() for path in given) else os.path.relpath(root)
    files = [ImageFile(names[name], name, image_id) for name, image_id in zip(ordered, ids, strict=True)]
    first = [os.path.relpath(_absolute(path), root) for path in other[:_NAMED_OTHERS]]
    first_others = tuple(name.encode(errors="backslashreplace").decode() for name in first)  # can be printed
    return Listing(tuple(files), shown, len(other), first_others)


def _without_ending(name: str) -> str:
    """Remove a known ending only: the last number of a UID is not an ending."""
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in DICOM_SUFFIXES | RASTER_SUFFIXES else name


def _absolute(path: Path) -> str:
    # not resolved: two links to one file count as two files
    return os.path.abspath(path)  # noqa: PTH100 - Path.absolute() leaves .. in


def fingerprint(listing: Listing) -> str:
    """Short hash of the files' names, sizes and times, so that the same command resumes an interrupted one."""
    digest = hashlib.sha256()
    for file in listing.files:
        known = file.path.stat() if file.path.exists() else None
        state = (known.st_size, known.st_mtime_ns) if known else None
        digest.update(f"{file.file_name} {state}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def default_out(run: Path, given: Sequence[Path]) -> Path:
    """`predictions/<name of the first path>` next to the run, for instance runs/phantom/predictions/scans."""
    first = given[0].resolve()
    return run.parent / "predictions" / (first.name if first.is_dir() else first.stem)


def refuse_inside(out: Path, given: Sequence[Path], *, option: str = "--out") -> None:
    """UserError if results would be written among the images."""
    for path in given:
        folder = (path if path.is_dir() else path.parent).resolve()
        target = out.resolve()
        if target == folder or (path.is_dir() and folder in target.parents):
            raise UserError(f"{option} {out}: lies among the images in {path}; give a folder elsewhere")

"""Maps and probabilities of a split, computed once by one process or several and stored in the run folder.

The split is cut into parts of `batch_size` images; each part is a file named by its images. Process r of n computes the
parts r, r + n, ... The result does not depend on the number of processes, and a run that resumes with another number
finds every finished part. Several machines share the folder.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from cxr.config import UserError
from cxr.imaging.pictures import Pictures
from cxr.progress import track
from cxr.tables import SHOWN_PROBLEMS, Exclusion
from eval.leaderboard.names import fusion_of, methods_of
from stage2_pseudolabel.cam.methods import choose_methods
from stage2_pseudolabel.cam_maps.balance import member_view_scales
from stage2_pseudolabel.cam_maps.mean_of_methods import maps_of
from stage2_pseudolabel.cam_maps.parts import Maps, Part, compute_part, methods_in
from stage2_pseudolabel.cam_maps.processes import Processes
from stage2_pseudolabel.cam_maps.teacher import Scales, Teacher

SCALES_FILE = "scales.json"

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class SplitMaps:
    """Maps of the images of a split: method -> (N, K, h, w) float32, and probabilities (N, K) in [0, 1].

    maps: `split_maps` reads a method from disk each time it is asked for. bad: images that cannot be read or have
        features that are not finite, in their order; their maps and probabilities are zeros.

    Each image is classified alone; a classifier trained on studies treats it as a study of one view.
    """

    maps: Mapping[str, Maps]
    probabilities: npt.NDArray[np.float64]
    bad: tuple[Exclusion, ...] = ()

    def of(self, method: str) -> Maps:
        """The maps by a method, or by several as one (see `maps_of`)."""
        return maps_of(self.maps, method)

    def stacks_of(self, method: str) -> list[Maps]:
        """The maps from which the boxes of a method come: those of each method where boxes are fused, else `of`."""
        return [self.of(name) for name in (methods_of(method) if fusion_of(method) == "boxes" else (method,))]

    def select(self, *, rows: Sequence[int] | None = None, columns: Sequence[int] | None = None) -> "SplitMaps":
        """Only the images and findings at these places, in this order (None: all); `bad` stays."""
        chosen = _index(rows), _index(columns)
        return replace(self, maps=_Chosen(self.maps, *chosen), probabilities=_choose(self.probabilities, *chosen))


Index = npt.NDArray[np.int64] | slice
Floats = TypeVar("Floats", Maps, npt.NDArray[np.float64])


@dataclass(frozen=True)
class _Stored(Mapping[str, Maps]):
    """The maps in the files of a split, read when asked for."""

    files: tuple[Path, ...]
    methods: tuple[str, ...]
    num_findings: int

    def __getitem__(self, method: str) -> Maps:
        if method not in self.methods:
            raise KeyError(method)
        parts = [_loaded(file, [method]).maps[method] for file in self.files]
        size_hw = max((part.shape[-2:] for part in parts), default=(0, 0))
        maps = np.zeros((sum(map(len, parts)), self.num_findings, *size_hw), dtype=np.float32)
        for part, start in zip(parts, np.cumsum([0, *map(len, parts)]), strict=False):
            if part.shape[-2:] == size_hw:  # a part with only bad images has no size
                maps[start : start + len(part)] = part
        return maps

    def __iter__(self) -> Iterator[str]:
        return iter(self.methods)

    def __len__(self) -> int:
        return len(self.methods)


@dataclass(frozen=True)
class _Chosen(Mapping[str, Maps]):
    """Some rows and columns of other maps, cut out when asked for."""

    maps: Mapping[str, Maps]
    rows: Index
    columns: Index

    def __getitem__(self, method: str) -> Maps:
        return _choose(self.maps[method], self.rows, self.columns)

    def __iter__(self) -> Iterator[str]:
        return iter(self.maps)

    def __len__(self) -> int:
        return len(self.maps)


def split_maps(
    teacher: Teacher, pictures: Pictures, methods: Sequence[str], *, folder: Path, name: str, processes: Processes
) -> SplitMaps:
    """Maps of every image by every method; all processes call it together, and all get the result.

    Raises:
        UserError: an unknown method, no image of the split can be used, or the folder is not shared.
    """
    choose_methods(methods)
    scales = member_view_scales(teacher, pictures, methods, file=folder / SCALES_FILE, processes=processes)
    rows, files = _plan(pictures, teacher.options.batch_size, folder=folder, name=name)
    own = list(zip(rows, files, strict=True))[processes.rank :: processes.count]
    done = sum(file.is_file() for file in files)
    processes.wait()  # no process counts the new parts of another
    if done and processes.is_first:
        log.info("%s: %d of %d parts exist already", name, done, len(files))
    for part_rows, file in track(own, f"maps of {name}", show=processes.is_first):
        _make_part(teacher, pictures, methods, rows=part_rows, file=file, scales=scales)
    processes.wait()
    return _read(teacher, pictures, methods, files=files, name=name, log_bad=processes.is_first)


def _plan(pictures: Pictures, size: int, *, folder: Path, name: str) -> tuple[list[range], list[Path]]:
    """Rows and file of each part."""
    ids = pictures.image_ids
    rows = [range(start, min(start + size, len(ids))) for start in range(0, len(ids), size)]
    return rows, [folder / f"{name}_{part[0]:06d}_{_hash(ids[part[0] : part[-1] + 1])}.npz" for part in rows]


def _hash(image_ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(image_ids).encode()).hexdigest()[:16]


def _make_part(
    teacher: Teacher, pictures: Pictures, methods: Sequence[str], *, rows: range, file: Path, scales: Scales
) -> None:
    """Compute the methods that the part's file does not have yet."""
    stored = methods_in(file)
    missing = [method for method in methods if method not in (stored or ())]
    if stored is not None and not missing:
        return
    part = compute_part(teacher, pictures, missing, rows=rows, scales=scales)
    if stored is not None:
        part = Part.load(file).joined(part)
    part.save(file)


def _read(
    teacher: Teacher, pictures: Pictures, methods: Sequence[str], *, files: Sequence[Path], name: str, log_bad: bool
) -> SplitMaps:
    """The maps in the files of all processes."""
    parts = [_loaded(file, []) for file in files]
    empty = np.zeros((len(teacher.trained.members), 0, len(teacher.findings)), dtype=np.float32)
    logits = np.concatenate([empty, *(part.logits for part in parts)], axis=1)
    probabilities = teacher.trained.probabilities_of(list(logits))
    reasons = [reason for part in parts for reason in part.reasons]
    bad = tuple(
        Exclusion(image_id, reason) for image_id, reason in zip(pictures.image_ids, reasons, strict=True) if reason
    )
    if bad and len(bad) == len(reasons):
        raise UserError(
            f"maps: none of the {len(bad)} images of {name} can be used, first {bad[0].what} ({bad[0].reason}); look "
            "at these images and at the classifier's figures"
        )
    if bad and log_bad:
        named = ", ".join(f"{item.what} ({item.reason})" for item in bad[:SHOWN_PROBLEMS])
        log.warning("%s: %d of %d images have no maps: %s", name, len(bad), len(reasons), named)
    probabilities[np.array([bool(reason) for reason in reasons], dtype=bool)] = 0.0
    return SplitMaps(_Stored(tuple(files), tuple(methods), len(teacher.findings)), probabilities, bad)


def _loaded(file: Path, methods: Sequence[str]) -> Part:
    try:
        return Part.load(file, methods)
    except FileNotFoundError:
        raise UserError(
            f"maps: {file} of another process does not exist here; give an --out that all machines share"
        ) from None


def _index(chosen: Sequence[int] | None) -> Index:
    return slice(None) if chosen is None else np.asarray(chosen, dtype=np.int64)


def _choose(values: Floats, rows: Index, columns: Index) -> Floats:
    return values[rows][:, columns]

"""The maps of one batch of pictures and their file.

An image is bad if its picture cannot be read, or if its features or maps are not finite. Its maps and logits are zeros
and the reason is stored; the rest of the batch is not affected.
"""

import json
import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cxr.config import UserError
from cxr.imaging.pictures import UNDECODABLE, Pictures
from cxr.runs.whole_files import whole_file
from stage2_pseudolabel.cam_maps.teacher import Scales, Teacher, TeacherMaps

NOT_FINITE = "features or maps that are not finite"

LOGITS, REASONS = "member_logits", "bad_reasons"
"""Keys of a part's file next to the methods: (M, B, K) logits, and a JSON list of B reasons, "" for a good image."""

Maps = npt.NDArray[np.float32]

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class Part:
    """maps: method -> (B, K, h, w), h = w = 0 where all images are bad. logits: (M, B, K). reasons: B, "" for good."""

    maps: Mapping[str, Maps]
    logits: Maps
    reasons: tuple[str, ...]

    def joined(self, other: "Part") -> "Part":
        """The methods of both parts, which have the same images; an image that is bad in one is bad."""
        pairs = zip(self.reasons, other.reasons, strict=True)
        reasons = tuple(mine or theirs for mine, theirs in pairs)
        is_bad = np.array([bool(reason) for reason in reasons])
        maps = {**self.maps, **other.maps}
        blank = {name: np.where(is_bad[:, None, None, None], np.float32(0), maps[name]) for name in maps}
        logits = np.where(is_bad[:, None], np.float32(0), self.logits)
        return Part(blank, logits, reasons)

    def save(self, file: Path) -> None:
        """Write the file completely or not at all, also when the process is killed."""
        file.parent.mkdir(parents=True, exist_ok=True)  # only now: an empty folder would refuse other settings
        arrays: dict[str, Any] = {LOGITS: self.logits, REASONS: np.array(json.dumps(self.reasons)), **self.maps}
        with whole_file(file) as partial, partial.open("wb") as stream:
            np.savez(stream, **arrays)

    @classmethod
    def load(cls, file: Path, methods: Sequence[str] | None = None) -> "Part":
        """Read the file, with these methods only (None: all)."""
        with np.load(file, allow_pickle=False) as content:
            names = [name for name in content.files if name not in (LOGITS, REASONS)]
            chosen = names if methods is None else list(methods)
            reasons = tuple(json.loads(str(content[REASONS])))
            return cls({name: content[name] for name in chosen}, content[LOGITS], reasons)


def methods_in(file: Path) -> tuple[str, ...] | None:
    """Methods of a file after checking every byte; None if it is missing or damaged."""
    try:
        with ZipFile(file) as archive:
            damaged = archive.testzip()
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, BadZipFile, NotImplementedError, zlib.error):
        damaged, names = file.name, []
    if damaged or not {LOGITS, REASONS} <= set(names):
        log.warning("%s is damaged: computing it again", file.name)
        return None
    return tuple(name for name in names if name not in (LOGITS, REASONS))


def compute_part(
    teacher: Teacher, pictures: Pictures, methods: Sequence[str], *, rows: Sequence[int], scales: Scales
) -> Part:
    """Maps of the pictures at `rows`. UserError for what is not due to single images, such as an unfit method."""
    good, inputs, reasons = usable(teacher, pictures, rows)
    result = None
    if good:
        result, finite = _finite_maps(teacher, inputs, methods, scales)
        for place, is_finite in zip(good, finite, strict=True):
            if not is_finite:
                reasons[place] = NOT_FINITE
        good = [place for place, is_finite in zip(good, finite, strict=True) if is_finite]
    count = len(rows)
    shape = (len(teacher.trained.members), count, len(teacher.findings))
    logits = np.zeros(shape, dtype=np.float32)
    maps = {name: np.zeros((count, shape[-1], 0, 0), dtype=np.float32) for name in methods}
    if result is not None:
        logits[:, good] = result.logits.numpy()
        maps = {name: _spread(result.maps[name].numpy(), good, count) for name in methods}
    return Part(maps, logits, tuple(reasons.get(place, "") for place in range(count)))


def usable(teacher: Teacher, pictures: Pictures, rows: Sequence[int]) -> tuple[list[int], list[Tensor], dict[int, str]]:
    """Places within `rows` of the readable pictures, their network inputs, and place -> reason for the others."""
    try:
        return list(range(len(rows))), teacher.inputs(pictures, rows), {}
    except UserError as error:
        reasons = _unreadable(pictures, rows)
        if not reasons:
            raise error from None
    good = [place for place in range(len(rows)) if place not in reasons]
    return good, teacher.inputs(pictures, [rows[place] for place in good]) if good else [], reasons


def _unreadable(pictures: Pictures, rows: Sequence[int]) -> dict[int, str]:
    """Place within `rows` -> reason; the error is logged."""
    reasons = {}
    for place, row in enumerate(rows):
        try:
            pictures[row]
        except UserError as error:
            log.warning("excluded: %s", error.problems[0])
            reasons[place] = UNDECODABLE
    return reasons


def _finite_maps(
    teacher: Teacher, inputs: list[Tensor], methods: Sequence[str], scales: Scales
) -> tuple[TeacherMaps | None, list[bool]]:
    """Maps of the pictures whose maps are finite (None if there are none), and which pictures these are."""
    finite = torch.ones(len(inputs[0]), dtype=torch.bool)
    try:
        result = teacher.maps(inputs, methods, scales=scales)
    except UserError as error:
        finite = teacher.are_finite(inputs)
        if finite.all():
            raise error from None
        if not finite.any():
            return None, finite.tolist()
        result = teacher.maps([images[finite] for images in inputs], methods, scales=scales)
    sound = result.logits.isfinite().all(2).all(0)
    for maps in result.maps.values():
        sound &= maps.isfinite().flatten(1).all(1)
    finite[finite.clone()] = sound
    kept = TeacherMaps({name: maps[sound] for name, maps in result.maps.items()}, result.logits[:, sound])
    return kept if sound.any() else None, finite.tolist()


def _spread(maps: Maps, places: Sequence[int], count: int) -> Maps:
    """Maps at their places among `count` images, zeros elsewhere."""
    if len(places) == count:
        return maps
    spread = np.zeros((count, *maps.shape[1:]), dtype=np.float32)
    spread[list(places)] = maps
    return spread

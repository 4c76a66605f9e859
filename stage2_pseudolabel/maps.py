"""Maps and logits of a split, computed once and kept in the run folder, so that an interrupted run goes on.

An ensemble counts as one classifier: its map is the mean over its networks, and over the forms in which they see the
picture (the map of a flipped picture is flipped back), whatever rule combines their probabilities. Maps keep their
absolute values, so where networks' scales differ, as with gradients, the one with the larger values counts more.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from cxr.progress import track
from cxr.splits import fingerprint
from stage1_classify.inputs.pictures import Pictures
from stage1_classify.judging.predict import flipped
from stage1_classify.loading import Member, Trained
from stage2_pseudolabel.cam.engine import compute_maps
from stage2_pseudolabel.cam.options import CamOptions

log = logging.getLogger("raybox")

_LOGITS = "member_logits"
"""Key of the (M, B, K) logits in a part's file."""


@dataclass(frozen=True)
class TeacherMaps:
    """Of a batch: method -> (B, K, h, w), and the logits (M, B, K) of each network; float32 on the CPU."""

    maps: dict[str, Tensor]
    logits: Tensor


@dataclass(frozen=True)
class Teacher:
    """The classifier, of one network or several, with the options of its maps."""

    trained: Trained
    options: CamOptions

    @property
    def findings(self) -> tuple[str, ...]:
        """The maps' columns."""
        return tuple(self.trained.settings.findings)

    def inputs(self, pictures: Pictures, indices: Sequence[int]) -> list[Tensor]:
        """The pictures at `indices` as each network takes them, (B, channels, H, W)."""
        return [member.batch(pictures, indices) for member in self.trained.members]

    def maps(self, inputs: Sequence[Tensor], methods: Sequence[str]) -> TeacherMaps:
        """Maps by every method, of all networks together; `inputs` has a batch for each of them."""
        pairs = zip(self.trained.members, inputs, strict=True)
        parts = [self._member_maps(member, images, methods) for member, images in pairs]
        maps = {method: mean_maps([part.maps[method] for part in parts]) for method in methods}
        return TeacherMaps(maps, torch.cat([part.logits for part in parts]))

    def _member_maps(self, member: Member, images: Tensor, methods: Sequence[str]) -> TeacherMaps:
        flips = self.trained.flips
        forms = [
            compute_maps(member.model, flipped(images, flip), methods, options=self.options) for flip in flips
        ]
        maps = {
            method: mean_maps(
                [flipped(form.maps[method], flip) for form, flip in zip(forms, flips, strict=True)]
            )
            for method in methods
        }
        return TeacherMaps(maps, torch.stack([form.logits for form in forms]).mean(0, keepdim=True))


def mean_maps(maps: Sequence[Tensor]) -> Tensor:
    """Mean of stacks of maps (B, K, h, w); coarser ones are brought bilinearly to the largest grid.

    A cell covers the same share of the picture before and after (corners are not aligned).
    """
    height, width = (max(stack.shape[axis] for stack in maps) for axis in (-2, -1))
    size_hw = (height, width)
    return torch.stack(
        [stack if stack.shape[-2:] == size_hw else _resized(stack, size_hw) for stack in maps]
    ).mean(0)


def _resized(maps: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return functional.interpolate(maps, size_hw, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class SplitMaps:
    """Maps of the images of a split: method -> (N, K, h, w) float32, and probabilities (N, K) in [0, 1].

    Each image is judged by itself, also by a classifier that was trained on studies: as a study of one view.
    """

    maps: dict[str, npt.NDArray[np.float32]]
    probabilities: npt.NDArray[np.float64]


def split_maps(
    teacher: Teacher, pictures: Pictures, methods: Sequence[str], *, folder: Path, name: str
) -> SplitMaps:
    """Maps by every method for every image; work in chunks, each chunk a file that a later call finds again."""
    size = teacher.options.image_batch
    starts = range(0, len(pictures), size)
    folder.mkdir(parents=True, exist_ok=True)
    files = [
        folder / f"{name}_{start:06d}_{fingerprint(pictures.image_ids[start : start + size])}.npz"
        for start in starts
    ]
    done = sum(file.is_file() for file in files)
    if done:
        log.info("%s: %d of %d parts are there already", name, done, len(files))
    for start, file in track(list(zip(starts, files, strict=True)), f"maps of {name}"):
        if not _is_readable(file):
            indices = range(start, min(start + size, len(pictures)))
            _compute_part(teacher, pictures, methods, indices=indices, file=file)
    parts = [np.load(file) for file in files]
    maps = {method: np.concatenate([part[method] for part in parts]) for method in methods}
    logits = np.concatenate([part[_LOGITS] for part in parts], axis=1)
    return SplitMaps(maps, teacher.trained.probabilities_of(list(logits)))


def _is_readable(file: Path) -> bool:
    """True for a whole file of maps; a damaged one is made again."""
    try:
        with np.load(file) as content:
            return _LOGITS in content
    except FileNotFoundError:
        return False
    except (OSError, ValueError, EOFError, BadZipFile):
        log.warning("%s is damaged: computing it again", file.name)
        return False


def _compute_part(
    teacher: Teacher, pictures: Pictures, methods: Sequence[str], *, indices: range, file: Path
) -> None:
    result = teacher.maps(teacher.inputs(pictures, indices), methods)
    arrays = {method: maps.numpy() for method, maps in result.maps.items()}
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, **{_LOGITS: result.logits.numpy()}, **arrays)
    partial.replace(file)

"""Maps and logits of a split, computed once and kept in the run folder, so that an interrupted run goes on."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from cxr.progress import track
from cxr.splits import fingerprint
from stage1_classify.model import Classifier
from stage1_classify.pictures import Pictures
from stage1_classify.predict import sigmoid
from stage2_pseudolabel.cam.engine import compute_maps
from stage2_pseudolabel.cam.options import CamOptions

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class Teacher:
    """The classifier with what its maps need to know of it."""

    model: Classifier
    findings: tuple[str, ...]
    num_channels: int
    options: CamOptions


@dataclass(frozen=True)
class SplitMaps:
    """Maps of the images of a split: method -> (N, K, h, w) float32, and probabilities (N, K) in (0, 1)."""

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
    return SplitMaps(maps, sigmoid(np.concatenate([part["logits"] for part in parts])))


def _is_readable(file: Path) -> bool:
    """True for a whole file of maps; a damaged one is made again."""
    try:
        with np.load(file) as content:
            return "logits" in content
    except FileNotFoundError:
        return False
    except (OSError, ValueError, EOFError, BadZipFile):
        log.warning("%s is damaged: computing it again", file.name)
        return False


def _compute_part(
    teacher: Teacher, pictures: Pictures, methods: Sequence[str], *, indices: range, file: Path
) -> None:
    images = pictures.batch(indices, teacher.num_channels)
    result = compute_maps(teacher.model, images, methods, options=teacher.options)
    arrays = {method: maps.numpy() for method, maps in result.maps.items()}
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, logits=result.logits.numpy(), **arrays)
    partial.replace(file)

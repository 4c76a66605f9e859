"""Scales of member views: what each view's maps are divided by before they are averaged.

A member view is one network at one picture size. Gradients differ by orders of magnitude between networks and sizes. So
the maps of a method get one fixed scale per member view: their root mean square over some pictures, relative to that of
the first member view, whose scale is 1. PCAM's maps are probabilities and need no scaling: all their scales are 1.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from cxr.config import UserError
from cxr.imaging.pictures import Pictures
from cxr.runs.run_folder import atomic_write_text
from stage2_pseudolabel.cam_maps.parts import usable
from stage2_pseudolabel.cam_maps.processes import Processes
from stage2_pseudolabel.cam_maps.teacher import Scales, Teacher

_NUM_PICTURES = 16

_PROBABILITIES = ("pcam",)
"""Methods whose maps mean the same in all networks."""

log = logging.getLogger("raybox")


def member_view_scales(
    teacher: Teacher, pictures: Pictures, methods: Sequence[str], *, file: Path, processes: Processes
) -> Scales:
    """Method -> one scale > 0 per member view, read from `file`, or measured on `pictures` and stored there."""
    measured = [] if len(teacher.member_views) == 1 else [name for name in methods if name not in _PROBABILITIES]
    scales = {name: [1.0] * len(teacher.member_views) for name in methods}
    if not measured:
        return scales
    known: dict[str, list[float]] = {}
    if processes.is_first:
        known = read_levels(file)
        missing = [name for name in measured if len(known.get(name, ())) != len(teacher.member_views)]
        if missing:
            known |= _measure(teacher, pictures, missing)
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(file, json.dumps(known, indent=1) + "\n")
    known = processes.from_first(known)
    return scales | {name: relative_to_first(known[name]) for name in measured}


def stored_scales(file: Path, methods: Iterable[str], *, num_views: int) -> Scales | None:
    """The scales that a run has stored, by method; None where there is one member view, which needs none.

    Raises:
        UserError: the file lacks a method.
    """
    if num_views == 1:
        return None
    scales = {name: [1.0] * num_views for name in _PROBABILITIES}
    scales |= {name: relative_to_first(levels) for name, levels in read_levels(file).items()}
    if missing := set(methods) - scales.keys():
        raise UserError(f"{file}: no scales of {', '.join(sorted(missing))}; run stage 2 again")
    return scales


def relative_to_first(levels: Sequence[float]) -> list[float]:
    """Each level divided by the first one; 1 for a member view without any map."""
    first = levels[0] if levels[0] > 0 else 1.0
    return [level / first if level > 0 else 1.0 for level in levels]


def read_levels(file: Path) -> dict[str, list[float]]:
    """Method -> root mean square of each member view; nothing where there is no whole file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): [float(level) for level in levels] for name, levels in content.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        log.warning("%s is damaged: measuring it again", file.name)
        return {}


def _measure(teacher: Teacher, pictures: Pictures, methods: Sequence[str]) -> dict[str, list[float]]:
    """Method -> root mean square of each member view's maps over the first pictures that can be used."""
    for start in range(0, len(pictures), _NUM_PICTURES):
        rows = range(start, min(start + _NUM_PICTURES, len(pictures)))
        places, inputs, _ = usable(teacher, pictures, rows)
        if places:
            finite = teacher.are_finite(inputs)
            inputs = [images[finite] for images in inputs]
        if places and len(inputs[0]):
            view_maps, _ = teacher.each_member_view(inputs, methods)
            return {name: [_root_mean_square(maps[name]) for maps in view_maps] for name in methods}
    return {name: [1.0] * len(teacher.member_views) for name in methods}


def _root_mean_square(maps: torch.Tensor) -> float:
    """Over what is finite; 0 for nothing."""
    values = maps[maps.isfinite()].double()
    return float(values.square().mean().sqrt()) if values.numel() else 0.0

"""How loud each voice of a teacher speaks: the scales that its maps are divided by before they are averaged.

Gradients differ by orders of magnitude from network to network, and with the size of the picture. So each voice's maps
of a method get a fixed number: their root mean square over some pictures, in terms of that of the first voice, which
keeps its values (its scale is 1). PCAM's maps are probabilities, whose plain mean is one again: all scales are 1.

The pictures are the first 16 of the split that is asked for first, the tune split. The numbers are kept in a file, and
serve the other splits and a resumed run, whichever number of processes it has.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from cxr.imaging.pictures import Pictures
from cxr.runs.run_folder import atomic_write_text
from stage2_pseudolabel.cam_maps.parts import usable
from stage2_pseudolabel.cam_maps.processes import Processes
from stage2_pseudolabel.cam_maps.teacher import Scales, Teacher

_NUM_PICTURES = 16

_PROBABILITIES = ("pcam",)
"""Methods whose maps mean the same in all networks."""

log = logging.getLogger("raybox")


def voice_scales(
    teacher: Teacher, pictures: Pictures, methods: Sequence[str], *, file: Path, processes: Processes
) -> Scales:
    """Method -> a scale for each voice, all above 0; of what `file` lacks they are measured on `pictures`, and kept."""
    measured = [] if len(teacher.voices) == 1 else [name for name in methods if name not in _PROBABILITIES]
    scales = {name: [1.0] * len(teacher.voices) for name in methods}
    if not measured:
        return scales
    known: dict[str, list[float]] = {}
    if processes.is_first:
        known = _read(file)
        missing = [name for name in measured if len(known.get(name, ())) != len(teacher.voices)]
        if missing:
            known |= _measure(teacher, pictures, missing)
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(file, json.dumps(known, indent=1) + "\n")
    known = processes.from_first(known)
    return scales | {name: _in_terms_of_the_first(known[name]) for name in measured}


def _in_terms_of_the_first(levels: Sequence[float]) -> list[float]:
    """A voice without any map at all is left as it is."""
    first = levels[0] if levels[0] > 0 else 1.0
    return [level / first if level > 0 else 1.0 for level in levels]


def _read(file: Path) -> dict[str, list[float]]:
    """Method -> root mean square of each voice; nothing where there is no whole file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): [float(level) for level in levels] for name, levels in content.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        log.warning("%s is damaged: measuring it again", file.name)
        return {}


def _measure(teacher: Teacher, pictures: Pictures, methods: Sequence[str]) -> dict[str, list[float]]:
    """Method -> root mean square of each voice's maps over the first pictures that can be used."""
    for start in range(0, len(pictures), _NUM_PICTURES):
        rows = range(start, min(start + _NUM_PICTURES, len(pictures)))
        places, inputs, _ = usable(teacher, pictures, rows)
        if places:
            finite = teacher.are_finite(inputs)
            inputs = [images[finite] for images in inputs]
        if places and len(inputs[0]):
            spoken, _ = teacher.each_voice(inputs, methods)
            return {name: [_root_mean_square(maps[name]) for maps in spoken] for name in methods}
    return {name: [1.0] * len(teacher.voices) for name in methods}


def _root_mean_square(maps: torch.Tensor) -> float:
    """Over what is finite; 0 for nothing."""
    values = maps[maps.isfinite()].double()
    return float(values.square().mean().sqrt()) if values.numel() else 0.0

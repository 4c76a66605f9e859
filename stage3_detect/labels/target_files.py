"""The target file of one training image: one line per box and per region."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxr.boxes import Boxes

Targets = npt.NDArray[np.float64]
COLUMNS = ("class", "centre x", "centre y", "width", "height", "weight", "region")
"""Positions and sizes are fractions of the network input. region: 1 for a region, 0 for a box."""


def targets_path(picture: Path) -> Path:
    """`images/train/x.png` -> `targets/train/x.txt`."""
    return picture.parents[2] / "targets" / picture.parent.name / f"{picture.stem}.txt"


def read_targets(path: Path) -> Targets:
    """(n, 7) array with `COLUMNS`; (0, 7) for an empty file."""
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    return np.array(rows, dtype=np.float64).reshape(-1, len(COLUMNS))


def target_lines(
    boxes: Boxes, classes: Sequence[int], image_px: int, *, weights: Sequence[float], regions: Sequence[bool]
) -> str:
    """Text with `COLUMNS`. boxes: (n, 4) xyxy pixels of the network input."""
    plain = label_lines(boxes, classes, image_px).splitlines()
    rows = zip(plain, weights, regions, strict=True)
    return "".join(f"{line} {weight:.6f} {int(is_region)}\n" for line, weight, is_region in rows)


def label_lines(boxes: Boxes, classes: Sequence[int], image_px: int) -> str:
    """YOLO text, one line per box: class, centre x, centre y, width, height as fractions of the network input."""
    lines = []
    for (x1, y1, x2, y2), index in zip(boxes / image_px, classes, strict=True):
        lines.append(f"{index} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}\n")
    return "".join(lines)

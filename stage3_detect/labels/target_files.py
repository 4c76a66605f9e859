"""The text file of one training image: a line for each box and each region."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxr.boxes import Boxes

Targets = npt.NDArray[np.float64]
COLUMNS = ("class", "centre x", "centre y", "width", "height", "weight", "region")
"""Places and sizes are shares of the network input; region is 1 for a region, 0 for a box."""


def targets_path(picture: Path) -> Path:
    """`images/train/x.png` -> `targets/train/x.txt`."""
    return picture.parents[2] / "targets" / picture.parent.name / f"{picture.stem}.txt"


def read_targets(path: Path) -> Targets:
    """(n, 7) of `COLUMNS`, (0, 7) of an empty file."""
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    return np.array(rows, dtype=np.float64).reshape(-1, len(COLUMNS))


def target_lines(
    boxes: Boxes,
    classes: Sequence[int],
    image_px: int,
    *,
    weights: Sequence[float],
    regions: Sequence[bool],
) -> str:
    """Text of `COLUMNS`. boxes: (n, 4) xyxy pixels of the network input."""
    plain = label_lines(boxes, classes, image_px).splitlines()
    told = zip(plain, weights, regions, strict=True)
    return "".join(f"{line} {weight:.6f} {int(is_region)}\n" for line, weight, is_region in told)


def label_lines(boxes: Boxes, classes: Sequence[int], image_px: int) -> str:
    """YOLO text: class, centre x, centre y, width, height as shares of the network input, one box a line."""
    lines = []
    for (x1, y1, x2, y2), index in zip(boxes / image_px, classes, strict=True):
        lines.append(f"{index} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}\n")
    return "".join(lines)

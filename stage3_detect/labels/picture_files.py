"""Write pictures at network size and their target files. An interrupted call continues where it stopped."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr.boxes import Boxes
from cxr.config import UserError
from cxr.imaging.files import read_pixels, write_png8
from cxr.imaging.geometry import Resize
from stage3_detect.model.network import to_net

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
    rows = zip(label_lines(boxes, classes, image_px).splitlines(), weights, regions, strict=True)
    return "".join(f"{line} {weight:.6f} {int(is_region)}\n" for line, weight, is_region in rows)


def label_lines(boxes: Boxes, classes: Sequence[int], image_px: int) -> str:
    """YOLO text, one line per box: class, centre x, centre y, width, height as fractions of the network input."""
    lines = []
    for (x1, y1, x2, y2), index in zip(boxes / image_px, classes, strict=True):
        lines.append(f"{index} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}\n")
    return "".join(lines)


_NUM_THREADS = 4
"""Decoding releases the interpreter, so threads help."""


@dataclass(frozen=True)
class Item:
    """One picture to write; `text` returns the content of its text file, given the transform to network pixels."""

    image_id: str
    file: Path
    region: Any
    picture: Path
    text_file: Path
    text: Callable[[Resize], str]


def write_items(items: Sequence[Item], image_px: int) -> list[str | None]:
    """Write the missing files; returns per item why it cannot be read, or None."""
    for parent in {path.parent for item in items for path in (item.picture, item.text_file)}:
        parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        return list(pool.map(lambda item: _write_item(item, image_px), items))


def _write_item(item: Item, image_px: int) -> str | None:
    """Write both files completely or not at all; the picture comes last."""
    if item.picture.is_file() and item.text_file.is_file():
        return None
    try:
        image = read_pixels(item.file, region=item.region)
        net, resize = to_net(image, image_px)
    except UserError as error:
        return " ".join(error.problems)
    partial = _partial(item.text_file)
    partial.write_text(item.text(resize), encoding="utf-8")
    partial.replace(item.text_file)
    partial = _partial(item.picture)
    write_png8(partial, np.divide(net, np.float32(255), dtype=np.float32))
    partial.replace(item.picture)
    return None


def _partial(path: Path) -> Path:
    """Path in a separate folder, because ultralytics reads every picture in its own."""
    folder = path.parents[2] / "partial"
    folder.mkdir(exist_ok=True)
    return folder / f"{path.parents[1].name}_{path.parent.name}_{path.name}"

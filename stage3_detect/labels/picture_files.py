"""Pictures at network size with the text file of each, written side by side; an interrupted folder goes on."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxr.config import UserError
from cxr.imaging.files import read_pixels, write_png8
from cxr.imaging.geometry import Resize
from stage3_detect.model.preprocess import to_net

_NUM_THREADS = 4
"""Decoding releases the interpreter, so threads help."""


@dataclass(frozen=True)
class Item:
    """One picture to be written; `text` gives the file beside it from the transform to network pixels."""

    image_id: str
    file: Path
    region: Any
    picture: Path
    beside: Path
    text: Callable[[Resize], str]


def write_items(items: Sequence[Item], image_px: int) -> list[str | None]:
    """Write those that are not there yet; of each why it cannot be read, or None."""
    for parent in {path.parent for item in items for path in (item.picture, item.beside)}:
        parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        return list(pool.map(lambda item: _write_item(item, image_px), items))


def _write_item(item: Item, image_px: int) -> str | None:
    """Whole or not at all; the picture comes last."""
    if item.picture.is_file() and item.beside.is_file():
        return None
    try:
        image = read_pixels(item.file, region=item.region)
        net, resize = to_net(image, image_px)
    except UserError as error:
        return " ".join(error.problems)
    partial = _partial(item.beside)
    partial.write_text(item.text(resize), encoding="utf-8")
    partial.replace(item.beside)
    partial = _partial(item.picture)
    write_png8(partial, net.astype(np.float32) / 255)
    partial.replace(item.picture)
    return None


def _partial(path: Path) -> Path:
    """Beside the folder, since ultralytics takes every picture that it finds in one."""
    folder = path.parents[2] / "partial"
    folder.mkdir(exist_ok=True)
    return folder / f"{path.parents[1].name}_{path.parent.name}_{path.name}"

"""Write pictures at network size, each with its text file. An interrupted call continues where it stopped."""

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

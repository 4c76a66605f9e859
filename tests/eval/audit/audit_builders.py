"""Small data sets and measured images for the tests of the audit."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from cxr.imaging.network_input import NetImage
from cxr.tables import Dataset, box_table, empty_boxes, image_table

BOX_COLUMNS = ["image_id", "finding", "x1", "y1", "x2", "y2", "reader"]


def data_set(
    root: Path = Path(),
    *,
    labels: Mapping[str, Sequence[float]],
    boxes: Sequence[Sequence[object]] = (),
    **columns: Sequence[object],
) -> Dataset:
    """Images a, b, c, ... in files a.png, ...; labels: by finding; boxes: rows of `BOX_COLUMNS`."""
    num = len(next(iter(labels.values())))
    ids = [chr(ord("a") + row) for row in range(num)]
    given: dict[str, Sequence[object]] = {"path": [f"{name}.png" for name in ids], **columns}
    facts = {name: pd.Series(list(values), dtype=None if values else str) for name, values in given.items()}
    images = image_table(image_id=pd.Series(ids, dtype=str), **facts)
    table = pd.DataFrame({name: np.array(own, dtype=np.float64) for name, own in labels.items()}, index=pd.Index(ids))
    marked = box_table(pd.DataFrame(list(boxes), columns=BOX_COLUMNS)) if boxes else empty_boxes()
    return Dataset("tiny", root, images, table, marked)


def textured(seed: int, size_hw: tuple[int, int] = (120, 160)) -> NetImage:
    """Smooth blobs, different for each seed, with structure enough for a content hash."""
    coarse = np.random.default_rng(seed).random((12, 16), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, size_hw[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1) * 255, np.uint8)


def write_texture(path: Path, seed: int, size_hw: tuple[int, int] = (120, 160)) -> Path:
    """The picture of `textured` as a file; one seed in two sizes gives two files that look the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = cv2.resize(textured(seed), size_hw[::-1], interpolation=cv2.INTER_AREA)
    assert cv2.imwrite(str(path), picture)
    return path

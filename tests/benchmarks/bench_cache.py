"""Images per second from a filled picture cache: our memory-mapped store next to an LMDB database of the same pictures.

    python tests/benchmarks/bench_cache.py [--num-images 1024] [--size 384] [--rounds 7]

lmdb is not a dependency. To compare with it, install it next to the project and name the folder:

    .venv/bin/uv pip install --target runs/lmdb_site lmdb
    PYTHONPATH=runs/lmdb_site .venv/bin/python tests/benchmarks/bench_cache.py

Both stores hold the same pictures, check the crc32 of a picture at its first use and return views of mapped memory. All
pictures are visited in random order, in one thread, with the files in the system's memory, in three ways: *view* takes
the picture alone, *copy* also copies its pixels, *batch* makes the normalised float32 batches of 32 that the network
takes. Figures are medians over the rounds of images per second of CPU time. *open* is the time in milliseconds until a
second run has found all its pictures. The last line is one JSON object.
"""

import argparse
import json
import tempfile
import time
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from cxr.imaging.cache import PictureCache
from cxr.imaging.pictures import Pictures
from cxr.imaging.settings import InputSettings
from cxr.tables import Dataset, empty_boxes, image_table

BATCH = 32


class LmdbCache:
    """The pictures of `pictures` in an LMDB database, with the interface of `PictureCache`; keys are file paths."""

    def __init__(self, folder: Path, pictures: Pictures) -> None:
        import lmdb

        self._env = lmdb.open(str(folder), map_size=2**36, readahead=False)
        self._keys = [image_id.encode() for image_id in pictures.image_ids]
        self._shape = pictures[0].shape
        with self._env.begin(write=True) as transaction:
            for row, key in enumerate(self._keys):
                content = pictures[row].tobytes()
                transaction.put(key, content)
                transaction.put(b"crc " + key, zlib.crc32(content).to_bytes(4, "little"))
        self.open_again()

    def open_again(self) -> None:
        """Find all pictures, as a second run does."""
        self._transaction = self._env.begin(buffers=True)
        self._crcs = [bytes(self._transaction.get(b"crc " + key)) for key in self._keys]
        self._checked = np.zeros(len(self._keys), dtype=bool)

    def __getitem__(self, row: int) -> np.ndarray:
        content = self._transaction.get(self._keys[row])
        if not self._checked[row]:
            assert zlib.crc32(content).to_bytes(4, "little") == self._crcs[row]
            self._checked[row] = True
        return np.frombuffer(content, dtype=np.uint8).reshape(self._shape)


def make_dataset(root: Path, num_images: int, size: int) -> Dataset:
    """PNGs of soft noise at the network's size."""
    generator = np.random.default_rng(0)
    names = [f"i{number:05d}.png" for number in range(num_images)]
    for name in names:
        coarse = generator.integers(0, 255, (16, 20), dtype=np.uint8)
        cv2.imwrite(str(root / name), cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC))
    labels = pd.DataFrame({"Edema": 0.0}, index=pd.Index(names, name="image_id"))
    images = image_table(image_id=names, path=names, region="full")
    return Dataset("noise", root, images, labels, empty_boxes())


def ways_of(pictures: Pictures, order: list[int]) -> dict[str, Callable[[], None]]:
    """Each way of visiting all pictures."""

    def view() -> None:
        for row in order:
            pictures[row]

    def copy() -> None:
        for row in order:
            pictures[row].copy()

    def batch() -> None:
        for start in range(0, len(order), BATCH):
            pictures.batch(order[start : start + BATCH], 1)

    return {"view": view, "copy": copy, "batch": batch}


def milliseconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1000


def measure(folder: Path, num_images: int, size: int, rounds: int) -> dict[str, float]:
    dataset = make_dataset(folder, num_images, size)
    settings = InputSettings(size_hw=(size, size), cache_dir=folder / "cache")
    ours = Pictures(dataset, settings)
    order = np.random.default_rng(1).permutation(num_images).tolist()
    stores = {"ours": ours}
    figures = {"open/ours": min(milliseconds(lambda: Pictures(dataset, settings)) for _ in range(rounds))}
    if find_spec("lmdb") is not None:
        other = LmdbCache(folder / "lmdb", ours)
        figures["open/lmdb"] = min(milliseconds(other.open_again) for _ in range(rounds))
        stores["lmdb"] = ours.normalised_by(settings)
        stores["lmdb"]._cache = cast(PictureCache, other)
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds + 1):
        for name, pictures in stores.items():
            for way, visit in ways_of(pictures, order).items():
                begin = time.process_time()
                visit()
                seconds.setdefault(f"{way}/{name}", []).append(time.process_time() - begin)
    return figures | {key: num_images / float(np.median(values[1:])) for key, values in seconds.items()}


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--num-images", type=int, default=1024)
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        figures = measure(Path(name), given.num_images, given.size, given.rounds)
    table = Table("", "ours", "lmdb", title=f"{given.size} px, images per second (open: ms), one thread")
    for way in ("view", "copy", "batch", "open"):
        table.add_row(way, f"{figures[f'{way}/ours']:,.0f}", f"{figures.get(f'{way}/lmdb', np.nan):,.0f}")
    Console(width=110).print(table)
    Console(width=10_000).print(json.dumps(vars(given) | figures), markup=False, highlight=False)


if __name__ == "__main__":
    main()

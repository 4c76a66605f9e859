"""The bookkeeping of stage 3's `predict.py` for many files: listing, lines, resuming, parts, joining; no network.

    python tests/benchmarks/bench_shards.py [--files 1000 100000] [--shards 10]

The files are made: tiny PNG images in folders of 1,000. Instead of decoding and the network there are ten boxes that
depend on the file's name. Each step runs in a process of its own; *MiB* is what it adds to the memory of that process
at its highest. *interrupted* stops before the last 100 files, and *resumed* goes on. The last line is one
JSON object.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from cxr.imaging.files import Pixels, write_png8
from cxr.imaging.listing import find_images, fingerprint
from cxr.imaging.shards import Shard
from stage3_detect.model.predictor import FoundBox
from stage3_detect.prediction import files
from stage3_detect.prediction.call import Call
from stage3_detect.prediction.files import predict_files
from stage3_detect.prediction.shards import predict_in_shards
from tests.benchmarks.peak_memory import peak_mib
from tests.stage3_detect.prediction.run_builders import make_stage3_run
from tests.stage3_detect.stage3_builders import FINDINGS

STEPS = ("list", "single", "interrupted", "resumed", "parts", "join")
LAST = 100


class Made:
    """In place of the network: boxes from the name of the file that was read last."""

    findings = FINDINGS

    def __init__(self, stop_before: int | None = None) -> None:
        self._left, self._name = stop_before, ""

    def read(self, path: Path) -> Pixels:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left = None if self._left is None else self._left - 1
        self._name = path.name
        return np.zeros((2, 3), dtype=np.float32)

    def predict(self, *_: object) -> list[FoundBox]:
        random = np.random.default_rng(zlib.crc32(self._name.encode()))
        rows = np.sort(random.random((10, 5)), axis=0)
        return [FoundBox(FINDINGS[0], tuple(r[:4].tolist()), float(r[4]), None, True) for r in rows]


def predict(call: Call, stop_before: int | None = None) -> None:
    made = Made(stop_before)
    with (
        mock.patch.object(files, "open_predictor", lambda *_, **__: made),
        mock.patch.object(files, "read_pixels", made.read),
        mock.patch.object(files, "read_header", lambda _: ((2, 3), False)),
        suppress(KeyboardInterrupt),
    ):
        predict_files(call)


def step(name: str, folder: Path, num_files: int, num_shards: int) -> None:
    def call(out: str, shard: Shard | None = None) -> Call:
        where = folder / out
        return Call(folder / "run", (folder / "files",), where, pictures=False, quality_gate="off", shard=shard)

    def listed() -> str:
        return fingerprint(find_images([folder / "files"]))

    def parts() -> None:
        for number in range(1, num_shards + 1):
            predict(call("sharded", Shard(number, num_shards)))

    work: dict[str, Callable[[], object]] = {
        "list": listed,
        "single": lambda: predict(call("single")),
        "interrupted": lambda: predict(call("resumed"), num_files - LAST),
        "resumed": lambda: predict(call("resumed")),
        "parts": parts,
        "join": lambda: predict_in_shards(call("sharded"), num_shards),
    }
    begin = time.perf_counter()
    mib = peak_mib(work[name], torch.device("cpu"))
    sys.stdout.write(json.dumps([time.perf_counter() - begin, mib]))


def make_files(folder: Path, count: int) -> None:
    write_png8(folder / "one.png", np.zeros((2, 3), dtype=np.float32))
    content = (folder / "one.png").read_bytes()
    for number in range(count):
        path = folder / "files" / f"{number // 1000:03d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def measure(num_files: int, num_shards: int) -> dict[str, list[float]]:
    """Step -> seconds, MiB."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_stage3_run(folder / "run")
        make_files(folder, num_files)
        for each in STEPS:
            command = [sys.executable, __file__, "--step", each, name, str(num_files), str(num_shards)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            found[each] = json.loads(done.stdout)
        texts = [(folder / out / "predictions.json").read_bytes() for out in ("single", "resumed", "sharded")]
    assert texts[0] == texts[1] == texts[2]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--step", nargs=4, metavar=("STEP", "FOLDER", "FILES", "SHARDS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        step(given.step[0], Path(given.step[1]), int(given.step[2]), int(given.step[3]))
        return
    results = {num_files: measure(num_files, given.shards) for num_files in given.files}
    table = Table("step", *(f"{count:,} files: {unit}" for count in results for unit in ("s", "MiB")))
    for each in STEPS:
        table.add_row(each, *(f"{value:.1f}" for found in results.values() for value in found[each]))
    Console().print(table)
    sys.stdout.write(json.dumps({str(count): found for count, found in results.items()}) + "\n")


if __name__ == "__main__":
    main()

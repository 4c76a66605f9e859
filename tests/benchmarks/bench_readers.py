"""Seconds that readers' agreement takes on a table of the size of VinBigData's train.csv, and each rule of fusion.

    python tests/benchmarks/bench_readers.py [--images 15000] [--abnormal 4394] [--boxes 36096]

The table is drawn: three readers an image, in normal images three rows "No finding", in abnormal ones findings with
a number of boxes and an agreement of readers like the real table's; so 15,000 images and 36,096 boxes make its 67,914
rows. Times are CPU time, without imports. Prints a table and, as the last line, one JSON object.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from cxr.readers import ReaderSettings, fuse_readers
from eval.readers.agreement import Reads, agreement_measures
from eval.readers.compare_readers import compare_table
from eval.readers.human import human_counts
from eval.readers.table import read_reader_table

CLASSES = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Consolidation", "ILD", "Infiltration",
    "Lung Opacity", "Nodule/Mass", "Other lesion", "Pleural effusion", "Pleural thickening", "Pneumothorax",
    "Pulmonary fibrosis",
)  # fmt: skip
BOXES = (7162, 279, 960, 5427, 556, 1000, 1247, 2483, 2580, 2203, 2476, 4842, 226, 4655)
"""Boxes of each class in the real table, here the odds of the classes."""

Row = tuple[object, ...]


def box_rows(num_images: int, num_boxes: int, rng: np.random.Generator) -> list[Row]:
    """Things that one to three of the image's readers mark, now and then with two boxes."""
    odds = np.array(BOXES) / sum(BOXES)
    rows: list[Row] = []
    while len(rows) < num_boxes:
        image = int(rng.integers(num_images))
        readers = ("R8", "R9", "R10") if image % 20 else ("R1", "R2", "R3")
        finding = CLASSES[int(rng.choice(len(CLASSES), p=odds))]
        x, y, w, h = rng.uniform((200, 200, 80, 80), (1800, 2000, 700, 700))
        for reader in rng.permutation(readers)[: rng.integers(1, 4)]:
            for part in range(1 + int(rng.uniform() < 0.16)):
                dx, dy = rng.normal(0, 0.08, 2) * (w, h) + 0.6 * part * w
                box = (x + dx, y + dy, x + dx + w, y + dy + h)
                rows.append((f"image{image}", finding, str(reader), *(round(float(value)) for value in box)))
    return rows[:num_boxes]


def table_of(num_images: int, num_abnormal: int, num_boxes: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    normal = range(num_abnormal, num_images)
    rows: list[Row] = [
        (f"image{i}", "No finding", f"R{1 + (i + k) % 17}", "", "", "", "") for i in normal for k in range(3)
    ]
    rows += box_rows(num_abnormal, num_boxes, rng)
    columns = ["image_id", "class_name", "rad_id", "x_min", "y_min", "x_max", "y_max"]
    return pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=0)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    begin = time.process_time()
    yield
    seconds[name] = time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 15_000), ("abnormal", 4_394), ("boxes", 36_096)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.csv"
        rows = table_of(given.images, given.abnormal, given.boxes)
        rows.to_csv(path, index=False)
        with timed(seconds, "read"):
            table = read_reader_table(path)
        for rule in ("union", "majority", "wbf", "em"):
            with timed(seconds, f"fuse_{rule}"):
                fuse_readers(table.boxes, ReaderSettings(rule=rule))
        with timed(seconds, "agreement"):
            agreement_measures(Reads(table.boxes, table.readings, table.image_ids, table.findings))
        with timed(seconds, "human"):
            human_counts(
                table.boxes, table.image_ids, findings=table.findings, settings=ReaderSettings(),
                readings=table.readings,
            )  # fmt: skip
        with timed(seconds, "whole_command"):
            compare_table(path, settings=ReaderSettings(), out=Path(folder) / "out")
    shown = Table("what", "seconds", title=f"{len(rows)} rows, {given.boxes} boxes")
    for name, value in seconds.items():
        shown.add_row(name, f"{value:.2f}")
    Console(width=110).print(shown)
    figures = vars(given) | {"rows": len(rows)} | {f"{name}_s": value for name, value in seconds.items()}
    Console(width=10_000).print(json.dumps(figures), markup=False, highlight=False)


if __name__ == "__main__":
    main()

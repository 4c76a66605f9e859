"""Seconds that the reader of CheXpert takes on tables of the release's size: 224,316 rows.

    python tests/benchmarks/bench_data_tables.py [--rows 223414] [--files]

The tables are made up: patients with three studies, every seventh image a lateral, random labels. --files also makes an
empty file per row and looks each of them up, as `check_files: exist` does. Times are processor time of all threads,
without imports. Prints a table and, as the last line, one JSON object.
"""

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from cxr.datasets.chexpert import FACTS, ChexpertData
from cxr.labels import CHEXPERT_FINDINGS

RELEASE = "CheXpert-v1.0-small"
CELLS = np.array(["", "", "", "1.0", "0.0", "-1.0"])
NUM_OTHERS = {"valid": 234, "test": 668}


def write_table(root: Path, part: str, num_rows: int, *, files: bool) -> None:
    """One of the release's tables, and its files if asked."""
    cells = CELLS[np.random.default_rng(0).integers(0, len(CELLS), (num_rows, len(CHEXPERT_FINDINGS)))]
    with (root / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow([*FACTS, *CHEXPERT_FINDINGS])
        for row in range(num_rows):
            view = "lateral" if row % 7 == 3 else "frontal"
            path = f"{part}/patient{row // 3 + 1:05d}/study{row % 3 + 1}/view1_{view}.jpg"
            facts = [f"{RELEASE}/{path}", "Female", row % 90 + 1, view.capitalize(), "AP" if view == "frontal" else ""]
            rows.writerow([*facts, *cells[row]])
            if files:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).touch()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=223_414)
    parser.add_argument("--files", action="store_true")
    arguments = parser.parse_args()
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / RELEASE
        root.mkdir()
        for part, num_rows in {"train": arguments.rows, **NUM_OTHERS}.items():
            write_table(root, part, num_rows, files=arguments.files)
        for view in ("all", "frontal"):
            check = "exist" if arguments.files else "none"
            settings = ChexpertData.model_validate({"root": root, "view": view, "check_files": check})
            start = time.process_time()
            settings.read()
            seconds[f"{check}/{view}"] = round(time.process_time() - start, 2)
        show(seconds)  # before the folder is deleted, which may take minutes


def show(seconds: dict[str, float]) -> None:
    """A table, and one JSON object."""
    table = Table("check_files / view", "processor s")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.2f}")
    Console().print(table)
    Console().print(json.dumps(seconds))


if __name__ == "__main__":
    main()

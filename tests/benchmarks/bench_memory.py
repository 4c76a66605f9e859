"""Whether memory grows with the number of images: the peak of each command on few images and on many.

    python tests/benchmarks/bench_memory.py [--images 500 4000]

Images are PNGs of 40 x 60 with a bright patch, networks are tiny, trainings have one epoch. The peak is the highest
resident size of the command's process, which its manifest holds. Prints a table and, as the last line, one JSON object:
command -> number of images -> MiB.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from cxr.boxes import CORNERS
from cxr.runs.run_folder import open_run
from eval.experiments.reproduce import SCRIPTS
from tests.builders import write_picture, write_rows
from tests.paths import ROOT

FINDINGS = ("Lung Lesion", "Pleural Effusion")
PATCHES = ((5, 5, 20, 18), (40, 25, 58, 38))
REPORTS = ("No pleural effusion. The heart is enlarged.", "Small right pleural effusion. No pneumothorax.")
UNUSED = tuple(f"{kind}_probability" for kind in ("affine", "contrast", "grid", "elastic", "erase"))
"""Augmentations that the data does not need."""
PARTS = ("train", "train", "train", "val", "test")


def write_data(root: Path, num_images: int) -> None:
    """A third of the images has the first finding, a third the second; a table of images and one of boxes."""
    rows, boxes = [], []
    for number in range(num_images):
        kind = number % 3
        path = f"images/p{number:06d}.png"
        write_picture(root / path, bright_xyxy=PATCHES[kind] if kind < 2 else None)
        rows.append((path, f"patient{number}", int(kind == 0), int(kind == 1), PARTS[number % len(PARTS)]))
        boxes += [(path, FINDINGS[kind], *PATCHES[kind])] if kind < 2 else []
    write_rows(root / "images.csv", ("path", "patient", *FINDINGS, "part"), rows)
    write_rows(root / "boxes.csv", ("path", "finding", "x1", "y1", "x2", "y2"), boxes)
    write_rows(root / "reports.csv", ("report_id", "report"), [(row[0], REPORTS[n % 2]) for n, row in enumerate(rows)])


def settings_of(stage: str, root: Path) -> dict[str, Any]:
    """Settings of a stage on a folder of `write_data`."""
    data = {
        "dataset": "csv_table",
        "root": str(root),
        "table": "images.csv",
        "columns": {"image": "path", "patient": "patient", "split": "part"},
        "findings": {name: name for name in FINDINGS},
        "boxes": {
            "table": "boxes.csv",
            "image": "path",
            "finding": "finding",
            **dict(zip(CORNERS, CORNERS, strict=True)),
        },
    }
    if stage == "stage1":
        return {
            "data": data,
            "split": {"kind": "official", "names": {"train": "train", "val": "val", "test": "test"}},
            "findings": list(FINDINGS),
            "backbone": {"name": "test_convnext", "feature_stage": 1},
            "input": {"size_hw": [48, 64]},
            "augment": {"flip_probability": 0.5} | dict.fromkeys(UNUSED, 0),
            "optimizer": {"learning_rate": 0.003},
            "train": {"num_epochs": 1, "batch_size": 8, "min_positives": 1},
        }
    if stage == "stage2":
        return {
            "data": data,
            "split": {"kind": "official", "names": {"tune": "val", "test": "test"}},
            "methods": ["pcam", "gradcam"],
            "pseudo_labels": {"min_likelihood_ratio": 0.0},
            "max_faithfulness_pairs": 2,
            "num_resamples": 50,
        }
    return {
        "data": {"image_px": 64},
        "train": {"num_epochs": 1, "batch_size": 16, "learning_rate": 0.002},
        "self_training": {"max_rounds": 0},
        "export": {"formats": ["onnx"]},
        "num_resamples": 50,
        "num_workers": 0,
    }


def peak_mib(script: str, arguments: Sequence[str | Path], out: Path) -> float:
    """Run a command into `out`; returns the highest peak of its phases in MiB."""
    command = [sys.executable, str(ROOT / script), *map(str, arguments), "--out", str(out)]
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return float(max(phase["peak_mib"] for phase in open_run(out).manifest["phases"].values()))


def commands(folder: Path, num_images: int) -> dict[str, tuple[str, Sequence[str | Path]]]:
    """Name -> script and arguments, in the order in which they need each other; each writes to `folder`/name."""
    for stage in SCRIPTS:
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump(settings_of(stage, folder / "data")))
    write_data(folder / "data", num_images)
    images = folder / "data" / "images"
    return {
        "stage1": (SCRIPTS["stage1"], [folder / "stage1.yaml"]),
        "stage2": (SCRIPTS["stage2"], [folder / "stage2.yaml", "--from", folder / "stage1"]),
        "stage3": (SCRIPTS["stage3"], [folder / "stage3.yaml", "--from", folder / "stage2"]),
        "predict1": ("stage1_classify/predict.py", [folder / "stage1", images]),
        "predict3": ("stage3_detect/predict.py", [folder / "stage3", images, "--quality-gate", "off"]),
        "reports": ("stage1_classify/label_reports.py", [folder / "data" / "reports.csv", "--workers", "1"]),
    }


def main(given: argparse.Namespace) -> None:
    peaks: dict[str, dict[int, float]] = {}
    for num_images in given.images:
        with tempfile.TemporaryDirectory(prefix="raybox-memory-") as name:
            for command, (script, arguments) in commands(Path(name), num_images).items():
                peaks.setdefault(command, {})[num_images] = peak_mib(script, arguments, Path(name) / command)
                sys.stderr.write(f"{command} {num_images}: {peaks[command][num_images]} MiB\n")
    table = Table("command", *(f"{number} images" for number in given.images), title="Highest memory in MiB")
    for command, by_number in peaks.items():
        table.add_row(command, *(f"{value:.0f}" for value in by_number.values()))
    Console().print(table)
    sys.stdout.write(json.dumps(peaks) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[500, 4000])
    main(parser.parse_args())

"""Export with ultralytics to ONNX and TensorRT."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch  # noqa: F401 - before ultralytics, see stage3_detect/__init__.py
from ultralytics import YOLO

from cxr.runs.whole_files import whole_file
from stage3_detect.training.trainer import kept_threads


@contextmanager
def exported(weights: Path, *, nms_free: bool, **options: Any) -> Iterator[Path]:
    """Export a copy of `weights` in a temporary folder; yields the path of the result.

    Args:
        options: of ultralytics' `YOLO.export`, such as format="onnx".
    """
    with tempfile.TemporaryDirectory(prefix="raybox-export-") as folder, kept_threads():
        copy = Path(folder) / weights.name  # ultralytics writes next to the weights
        shutil.copyfile(weights, copy)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's tracer comments on ultralytics' code
            made = YOLO(str(copy)).export(nms=False if nms_free else None, **options)
        yield Path(made)


def export_onnx(weights: Path, onnx_path: Path, *, nms_free: bool) -> None:
    """Write `onnx_path` atomically: batch 1, fixed size, raw output (boxes are decoded, without NMS).

    The same weights give the same file: the date that ultralytics adds is removed.
    """
    with exported(weights, nms_free=nms_free, format="onnx", device="cpu", simplify=True) as made:
        network = onnx.load(made)
    kept = [entry for entry in network.metadata_props if entry.key != "date"]
    del network.metadata_props[:]
    network.metadata_props.extend(kept)
    with whole_file(onnx_path) as partial:
        partial.write_bytes(network.SerializeToString())


def export_tensorrt(weights: Path, engine_path: Path, *, nms_free: bool, device: str = "0", batch: int = 1) -> None:
    """Write an engine that computes in 16 bits, atomically. Needs everything that `why_no_tensorrt` checks."""
    options: dict[str, Any] = {"format": "engine", "device": device, "quantize": 16, "batch": batch}
    with exported(weights, nms_free=nms_free, **options) as made, whole_file(engine_path) as partial:
        shutil.copyfile(made, partial)

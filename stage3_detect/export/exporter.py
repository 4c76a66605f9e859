"""Ultralytics' exporter, and the metadata that it writes into every exported file."""

import shutil
import tempfile
import warnings
from ast import literal_eval
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics import YOLO

from cxr.config import UserError
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


@dataclass(frozen=True)
class ExportMetadata:
    """findings: the classes in order. channels: 1 or 3. image_px: side of the square input."""

    findings: tuple[str, ...]
    channels: int
    image_px: int


def read_metadata(entries: Mapping[str, Any], path: Path) -> ExportMetadata:
    """Metadata of the exported file `path` from its `entries`; values may be Python literals as text.

    Raises:
        UserError: the entries are not those of an exported detector.
    """
    try:
        names, sides, channels = (_value(entries[key]) for key in ("names", "imgsz", "channels"))
        findings = tuple(str(names[index]) for index in sorted(names, key=int))
        return ExportMetadata(findings, int(channels), int(sides[0]))
    except (KeyError, IndexError, TypeError, ValueError, SyntaxError) as error:
        raise UserError(
            f"network {path}: the file does not name its findings, channels and size ({error!r}); "
            f"give a file that stage 3 exported"
        ) from None


def _value(entry: Any) -> Any:
    return literal_eval(entry) if isinstance(entry, str) else entry

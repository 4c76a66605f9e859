"""Export with ultralytics to ONNX and TensorRT, and run the files; the metadata of every exported file."""

import shutil
import tempfile
import warnings
from ast import literal_eval
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from ultralytics import YOLO

from cxr.config import UserError
from stage3_detect.model.network import NetInput, RawOutput
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


class ExportMetadata(NamedTuple):
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
        found = (entries[key] for key in ("names", "imgsz", "channels"))
        names, sides, channels = (literal_eval(entry) if isinstance(entry, str) else entry for entry in found)
        findings = tuple(str(names[index]) for index in sorted(names, key=int))
        return ExportMetadata(findings, int(channels), int(sides[0]))
    except (KeyError, IndexError, TypeError, ValueError, SyntaxError) as error:
        raise UserError(
            f"network {path}: the file does not name its findings, channels and size ({error!r}); "
            f"give a file that stage 3 exported"
        ) from None


class OnnxNetwork:
    """A `Network` on ONNX Runtime's CPU provider."""

    def __init__(self, path: Path, *, num_threads: int = 0) -> None:
        """Load `path`; num_threads 0 uses all cores.

        Raises:
            UserError: the file is damaged or not an exported detector.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common base class
            raise UserError(f"network {path}: ONNX Runtime cannot load it: {error}") from None
        self._input = self._session.get_inputs()[0].name
        meta = read_metadata(self._session.get_modelmeta().custom_metadata_map, path)
        self.findings, self.channels, self.image_px = meta.findings, meta.channels, meta.image_px

    def __call__(self, net_input: NetInput) -> RawOutput:
        """(1, C, S, S) -> raw output of that picture."""
        return np.asarray(self._session.run(None, {self._input: net_input})[0][0], dtype=np.float32)


def export_onnx(weights: Path, onnx_path: Path, *, nms_free: bool) -> None:
    """Write `onnx_path` atomically: batch 1, fixed size, raw output (boxes are decoded, without NMS).

    The same weights give the same file: the date that ultralytics adds is removed.
    """
    with exported(weights, nms_free=nms_free, format="onnx", device="cpu", simplify=True) as made:
        network = onnx.load(made)
    kept = [entry for entry in network.metadata_props if entry.key != "date"]
    del network.metadata_props[:]
    network.metadata_props.extend(kept)
    partial = onnx_path.with_suffix(".partial")
    partial.write_bytes(network.SerializeToString())
    partial.replace(onnx_path)


def why_no_tensorrt() -> str | None:
    """What this machine lacks for TensorRT, in one line; None if nothing."""
    if not torch.cuda.is_available():
        return "it needs an NVIDIA GPU, and PyTorch finds none on this machine"
    if find_spec("tensorrt") is None:
        return "the tensorrt package is not installed; install the one for your driver, e.g. tensorrt-cu12"
    return None


class TensorrtNetwork:
    """A `Network` on TensorRT. A file runs only on the GPU model and TensorRT version that it was built with."""

    def __init__(self, path: Path, *, device: str = "0") -> None:
        """Load `path` onto the CUDA device with this number."""
        from ultralytics.nn.autobackend import AutoBackend

        self.device = torch.device(f"cuda:{device}")
        self._backend: Any = AutoBackend(str(path), device=self.device, fp16=False, verbose=False)
        entries = {key: getattr(self._backend, key) for key in ("names", "imgsz", "channels")}
        meta = read_metadata(entries, path)
        self.findings, self.channels, self.image_px = meta.findings, meta.channels, meta.image_px

    def __call__(self, net_input: NetInput) -> RawOutput:
        """(1, C, S, S) -> raw output of that picture."""
        output = self.forward(torch.from_numpy(net_input).to(self.device))
        return np.array(output[0].float().cpu().numpy(), dtype=np.float32)

    @torch.inference_mode()
    def forward(self, net_inputs: torch.Tensor) -> torch.Tensor:
        """(B, C, S, S) -> (B, ...) raw outputs, both on the device; B as exported."""
        output = self._backend(net_inputs)
        raw: torch.Tensor = output[0] if isinstance(output, list | tuple) else output
        return raw


def export_tensorrt(weights: Path, engine_path: Path, *, nms_free: bool, device: str = "0", batch: int = 1) -> None:
    """Write an engine that computes in 16 bits, atomically. Needs everything that `why_no_tensorrt` checks."""
    options: dict[str, Any] = {"format": "engine", "device": device, "quantize": 16, "batch": batch}
    with exported(weights, nms_free=nms_free, **options) as made:
        partial = engine_path.with_suffix(".partial")
        shutil.copyfile(made, partial)
    partial.replace(engine_path)

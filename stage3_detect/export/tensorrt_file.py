"""The TensorRT form, for NVIDIA GPUs: made and run through ultralytics, which knows TensorRT's several generations."""

import shutil
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics import YOLO

from stage3_detect.export.description import read_description
from stage3_detect.model.network import NetInput, RawOutput
from stage3_detect.training.trainer import kept_threads


def why_no_tensorrt() -> str | None:
    """One line on what is missing here, or None."""
    if not torch.cuda.is_available():
        return "it is made on an NVIDIA GPU, and this machine has none that PyTorch can use"
    if find_spec("tensorrt") is None:
        return (
            "the tensorrt package is not installed; install the one that fits the driver, e.g. tensorrt-cu12"
        )
    return None


class TensorrtNetwork:
    """A `Network` on TensorRT. The file runs only on the kind of GPU and with the TensorRT version that made it."""

    def __init__(self, path: Path, *, device: str = "0") -> None:
        """Load `path` onto a CUDA number."""
        from ultralytics.nn.autobackend import AutoBackend

        self.device = torch.device(f"cuda:{device}")
        self._backend: Any = AutoBackend(str(path), device=self.device, fp16=False, verbose=False)
        entries = {key: getattr(self._backend, key) for key in ("names", "imgsz", "channels")}
        facts = read_description(entries, path)
        self.findings, self.channels, self.image_px = facts.findings, facts.channels, facts.image_px

    def __call__(self, net_input: NetInput) -> RawOutput:
        """(1, C, S, S) to the raw output of that picture."""
        output = self.forward(torch.from_numpy(net_input).to(self.device))
        return np.array(output[0].float().cpu().numpy(), dtype=np.float32)

    @torch.inference_mode()
    def forward(self, net_inputs: torch.Tensor) -> torch.Tensor:
        """(B, C, S, S) on the device to (B, ...) raw outputs, there; B as it was exported."""
        output = self._backend(net_inputs)
        raw: torch.Tensor = output[0] if isinstance(output, list | tuple) else output
        return raw


def export_tensorrt(
    weights: Path, engine_path: Path, *, nms_free: bool, device: str = "0", batch: int = 1
) -> None:
    """Write an engine that computes in 16 bits, atomically. Needs what `why_no_tensorrt` asks for."""
    folder_of_its_own = tempfile.TemporaryDirectory(prefix="raybox-export-")
    with folder_of_its_own as folder, kept_threads(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notes of torch's tracer on ultralytics' code
        copy = Path(folder) / weights.name
        shutil.copyfile(weights, copy)
        model: Any = YOLO(str(copy))
        made = model.export(
            format="engine", device=device, quantize=16, batch=batch, nms=False if nms_free else None
        )
        partial = engine_path.with_suffix(".partial")
        shutil.copyfile(made, partial)
    partial.replace(engine_path)

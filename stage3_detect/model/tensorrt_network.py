"""A TensorRT engine, run by ultralytics' backend."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.nn.autobackend import AutoBackend

from cxr.imaging.network_input import NetImage
from stage3_detect.model.metadata import read_metadata
from stage3_detect.model.network import RawOutput, to_tensor_input


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
        self.device = torch.device(f"cuda:{device}")
        self._backend: Any = AutoBackend(str(path), device=self.device, fp16=False, verbose=False)
        entries = {key: getattr(self._backend, key) for key in ("names", "imgsz", "channels")}
        meta = read_metadata(entries, path)
        self.findings, self.channels, self.image_px = meta.findings, meta.channels, meta.image_px

    def __call__(self, net_image: NetImage) -> RawOutput:
        """(S, S) uint8 -> raw output of that picture."""
        output = self.forward(torch.from_numpy(to_tensor_input(net_image, self.channels)).to(self.device))
        return np.array(output[0].float().cpu().numpy(), dtype=np.float32)

    @torch.inference_mode()
    def forward(self, net_inputs: torch.Tensor) -> torch.Tensor:
        """(B, C, S, S) -> (B, ...) raw outputs, both on the device; B as exported."""
        output = self._backend(net_inputs)
        raw: torch.Tensor = output[0] if isinstance(output, list | tuple) else output
        return raw

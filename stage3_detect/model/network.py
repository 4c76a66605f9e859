"""A trained network as a function of arrays: the form that all engines share, and the one on PyTorch."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from ultralytics import YOLO

from cxr.config import UserError

NetInput = npt.NDArray[np.float32]
"""(1, C, S, S) in [0, 1]."""

RawOutput = npt.NDArray[np.float32]
"""(4 + K, anchors): centre x, centre y, width, height in network pixels and K class scores, before NMS; or, from the
NMS-free head, (M, 6) rows x1, y1, x2, y2, score, class."""


class Network(Protocol):
    """A network on whatever engine.

    findings: its classes in order. channels: 1 or 3. image_px: side S of its square input.
    """

    findings: tuple[str, ...]
    channels: int
    image_px: int

    def __call__(self, net_input: NetInput) -> RawOutput:
        """One picture to the raw output, an array of the caller's own."""
        ...


class TorchNetwork:
    """The trained weights on PyTorch, on any device."""

    def __init__(
        self, weights: Path, *, device: str = "cpu", nms_free: bool = False, half: bool = False
    ) -> None:
        """Load `weights` (ours; a checkpoint is code, so load only files that you trust).

        Args:
            device: cpu, mps, cuda, or CUDA numbers such as 0 or 0,1 (the first is taken).
            half: compute in 16 bits, which is for GPUs. The file's weights are of 16 bits anyway.
        """
        model: Any = YOLO(str(weights)).model
        self.findings: tuple[str, ...] = tuple(model.names[index] for index in sorted(model.names))
        self.channels = int(model.yaml.get("channels", 3))
        self.image_px = int(model.args["imgsz"])
        model.end2end = nms_free
        self.device = torch.device(f"cuda:{device.partition(',')[0]}" if device[0].isdigit() else device)
        self._type = torch.float16 if half else torch.float32
        # fused in 32 bits: folding the normalisations in would lose digits in 16
        self._model = model.float().fuse(verbose=False).eval().to(self.device, self._type)

    def __call__(self, net_input: NetInput) -> RawOutput:
        """(1, C, S, S) to the raw output of that picture."""
        output = self.forward(torch.from_numpy(net_input).to(self.device))
        return np.asarray(output[0].float().cpu().numpy(), dtype=np.float32)

    @torch.inference_mode()
    def forward(self, net_inputs: torch.Tensor) -> torch.Tensor:
        """(B, C, S, S) on the device to (B, ...) raw outputs, there."""
        output = self._model(net_inputs.to(self._type))
        raw: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return raw


def pick_device(wanted: str) -> str:
    """`wanted`, if this machine has it; where it is auto: CUDA, else Apple's GPU, else the CPU.

    Args:
        wanted: auto, cpu, mps, or CUDA numbers such as 0 or 0,1.

    Raises:
        UserError: a device that this machine has not.
    """
    num_gpus, has_mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    if wanted == "auto":
        return "0" if num_gpus else "mps" if has_mps else "cpu"
    numbers = wanted.split(",")
    are_there = all(number.isdecimal() and int(number) < num_gpus for number in numbers)
    if not {"cpu": True, "mps": has_mps}.get(wanted, are_there):
        raise UserError(
            f"device: {wanted} asked for, and this machine has {num_gpus} CUDA GPUs; use auto or cpu"
        )
    return wanted

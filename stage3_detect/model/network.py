"""A trained network as a function of arrays: the protocol of all inference engines, and the PyTorch one."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from ultralytics import YOLO

from cxr.config import UserError
from cxr.imaging.files import Pixels
from cxr.imaging.geometry import Resize
from cxr.imaging.network_input import NetImage, to_net_image

NetInput = npt.NDArray[np.float32]
"""(1, C, S, S) in [0, 1]."""

RawOutput = npt.NDArray[np.float32]
"""(4 + K, anchors): centre x, centre y, width, height in network pixels and K class scores, before NMS. From the
NMS-free head: (M, 6) rows x1, y1, x2, y2, score, class."""


class Network(Protocol):
    """A network on any inference engine.

    findings: the classes in order. channels: 1 or 3. image_px: side S of the square input.
    """

    findings: tuple[str, ...]
    channels: int
    image_px: int

    def __call__(self, net_input: NetInput) -> RawOutput:
        """(1, C, S, S) -> raw output of that picture, as a new array."""
        ...


class TorchNetwork:
    """The trained weights in PyTorch, on any device."""

    def __init__(self, weights: Path, *, device: str = "cpu", nms_free: bool = False, half: bool = False) -> None:
        """Load `weights`. A checkpoint can run code, so load only files that you trust.

        Args:
            device: cpu, mps, cuda, or CUDA numbers such as 0 or 0,1 (uses the first).
            half: compute in 16 bits, on GPUs only. The file stores 16-bit weights in any case.
        """
        model: Any = YOLO(str(weights)).model
        self.findings: tuple[str, ...] = tuple(model.names[index] for index in sorted(model.names))
        self.channels = int(model.yaml.get("channels", 3))
        self.image_px = int(model.args["imgsz"])
        model.end2end = nms_free
        self.device = torch.device(f"cuda:{device.partition(',')[0]}" if device[0].isdigit() else device)
        self._type = torch.float16 if half else torch.float32
        # fused in 32 bits: fusing the normalisation layers in 16 bits loses precision
        self._model = model.float().fuse(verbose=False).eval().to(self.device, self._type)

    def __call__(self, net_input: NetInput) -> RawOutput:
        """(1, C, S, S) -> raw output of that picture."""
        output = self.forward(torch.from_numpy(net_input).to(self.device))
        return np.asarray(output[0].float().cpu().numpy(), dtype=np.float32)

    @torch.inference_mode()
    def forward(self, net_inputs: torch.Tensor) -> torch.Tensor:
        """(B, C, S, S) -> (B, ...) raw outputs, both on the device."""
        output = self._model(net_inputs.to(self._type))
        raw: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return raw


def pick_device(wanted: str) -> str:
    """The device `wanted`; auto is CUDA, else Apple's GPU, else the CPU.

    Args:
        wanted: auto, cpu, mps, or CUDA numbers such as 0 or 0,1.

    Raises:
        UserError: this machine does not have the device.
    """
    num_gpus, has_mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    if wanted == "auto":
        return "0" if num_gpus else "mps" if has_mps else "cpu"
    numbers = wanted.split(",")
    are_there = all(number.isdecimal() and int(number) < num_gpus for number in numbers)
    if not {"cpu": True, "mps": has_mps}.get(wanted, are_there):
        raise UserError(f"device: {wanted}, but this machine has {num_gpus} CUDA GPUs; use auto or cpu")
    return wanted


def to_net(image: Pixels, image_px: int) -> tuple[NetImage, Resize]:
    """Letterbox an image to a square of 8 bits, stretched by its own minimum and maximum.

    Training files have 8 bits too, so the detector sees the same values in training and in prediction.

    Args:
        image: (H, W) uint8, uint16 or float32; see `to_net_image`.

    Returns:
        (image_px, image_px) uint8, and the transform that maps boxes there and back.

    Raises:
        UserError: the image has no pixels.
    """
    height, width = image.shape
    resize = Resize((height, width), (image_px, image_px), keep_aspect=True)
    return to_net_image(image, resize), resize


def to_tensor_input(net_image: NetImage, channels: int) -> npt.NDArray[np.float32]:
    """(S, S) uint8 to (1, channels, S, S) float32 in [0, 1]; the grey channel is repeated for three channels."""
    scaled = np.divide(net_image, np.float32(255), dtype=np.float32)[None, None]
    return scaled if channels == 1 else np.repeat(scaled, channels, axis=1)

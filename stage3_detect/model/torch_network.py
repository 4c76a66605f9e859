"""The trained weights in PyTorch, and the device that they run on."""

from pathlib import Path

import numpy as np
import torch

from cxr.config import UserError
from cxr.imaging.network_input import NetImage
from stage3_detect.model.checkpoint import read_network
from stage3_detect.model.network import RawOutput, to_tensor_input


class TorchNetwork:
    """The trained weights in PyTorch, on any device."""

    def __init__(self, weights: Path, *, device: str = "cpu", nms_free: bool = False, half: bool = False) -> None:
        """Load `weights`; code that the file may hold is not run.

        Args:
            device: cpu, mps, cuda, or CUDA numbers such as 0 or 0,1 (uses the first).
            half: compute in 16 bits, on GPUs only. The file stores 16-bit weights in any case.

        Raises:
            UserError: as `read_network`.
        """
        model, content = read_network(weights, what="weights", advice="run stage 3 again")
        self.findings: tuple[str, ...] = tuple(model.names[index] for index in sorted(model.names))
        self.channels = int(model.yaml.get("channels", 3))
        self.image_px = int(content["train_args"]["imgsz"])
        model.end2end = nms_free
        self.device = first_device(device)
        self._type = torch.float16 if half else torch.float32
        # fused in 32 bits: fusing the normalisation layers in 16 bits loses precision
        self._model = model.float().fuse(verbose=False).eval().to(self.device, self._type)

    def __call__(self, net_image: NetImage) -> RawOutput:
        """(S, S) uint8 -> raw output of that picture."""
        output = self.forward(torch.from_numpy(to_tensor_input(net_image, self.channels)).to(self.device))
        return np.asarray(output[0].float().cpu().numpy(), dtype=np.float32)

    @torch.inference_mode()
    def forward(self, net_inputs: torch.Tensor) -> torch.Tensor:
        """(B, C, S, S) -> (B, ...) raw outputs, both on the device."""
        output = self._model(net_inputs.to(self._type))
        raw: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return raw


def first_device(device: str) -> torch.device:
    """PyTorch's name of a device that `pick_device` returned; of several GPUs, the first."""
    return torch.device(f"cuda:{device.partition(',')[0]}" if device[0].isdigit() else device)


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

"""How far a map lies beside the picture that it is laid over.

A map is laid over its picture as if each cell covered a square of its own, a stride wide. But a strided convolution of
odd size with symmetric padding looks around pixel stride * i, and the square's centre is half a stride further down and
right: boxes from such a map lie 15.5 pixels off at stride 32, and 3.5 at stride 8. Networks that cut the picture into
patches look at just their patch.

What a cell looks at is measured on the network itself, made linear (maps/ramps.py): through such a network a ramp stays
a ramp, so the ramp 0.5, 1.5, ... of the pixels' centres comes out as the place that each cell looks at. Where branches
look at different places, they count alike. Trained weights are passed over: what they look at within their field
differs by channel.
"""

import logging
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from stage2_pseudolabel.cam_maps.ramps import Ramps

if TYPE_CHECKING:
    from stage1_classify.model.classifier import Classifier

_FAR = 1e6
"""What ramps start from: so far above 0 activations and gates pass on what they get."""

_TOLERANCE = 0.25
"""Where cells look at places less regular than this share of a stride, no shift tells where they look."""

log = logging.getLogger("raybox")


@torch.no_grad()
def map_shift(model: "Classifier", input_hw: tuple[int, int]) -> tuple[float, float]:
    """(down, right): pixels of the input by which a cell's square lies beside the centre of what the cell looks at.

    The mean over cells, where the map does not divide the picture into whole strides. (0, 0) where it cannot be told:
    each cell looks everywhere, or the network does something that is not known here.

    Args:
        model: any network; nothing of it is changed. input_hw: (H, W) of its input.
    """
    try:
        places = _looked_at(model.backbone, input_hw)
    except Exception as error:  # whatever a network may do with an input that is no picture
        log.info("maps: where cells look cannot be told (%s); boxes are not moved", type(error).__name__)
        return 0.0, 0.0
    shifts = [_shift(*pair) for pair in zip(places, input_hw, strict=True)]
    if None in shifts:
        log.info("maps: where cells look cannot be told; boxes are not moved")
        return 0.0, 0.0
    down, right = (round(shift or 0.0, 3) + 0.0 for shift in shifts)  # no -0.0
    return down, right


def _shift(places: Tensor, size: int) -> float | None:
    """Mean distance of (n,) cells' centres from the places that they look at; None where these are no regular grid."""
    stride = size / len(places)
    steps = places.diff()
    if not places.isfinite().all() or ((steps - steps.mean()).abs() > _TOLERANCE * stride).any():
        return None
    if (
        len(steps) and not (1 - _TOLERANCE) * stride < float(steps.mean()) < 2 * stride
    ):  # h is H / stride rounded up
        return None
    centres = (torch.arange(len(places), dtype=places.dtype) + 0.5) * stride
    return float((centres - places).mean())


def _looked_at(backbone: nn.Module, input_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Of each row (h,) and each column (w,) of the map the place that it looks at, in pixels from the border."""
    height, width = input_hw
    down = (torch.arange(height, dtype=torch.float64) + 0.5).view(-1, 1).expand(height, width)
    right = (torch.arange(width, dtype=torch.float64) + 0.5).view(1, -1).expand(height, width)
    planes = torch.stack([torch.zeros_like(down), down, right]) + _FAR
    channels = _input_channels(backbone)
    device = next(backbone.parameters()).device
    weights = {name: _plain(name, tensor) for name, tensor in backbone.named_parameters()}
    weights |= {name: _plain(name, tensor) for name, tensor in backbone.named_buffers()}
    images = planes[:, None].expand(-1, channels, -1, -1).to(device)
    with Ramps():
        features = functional_call(backbone, weights, (images,))
    flat, of_rows, of_columns = features.sum(1).cpu()
    ratios = (of_rows / flat - 1) * _FAR, (of_columns / flat - 1) * _FAR
    return ratios[0].mean(1), ratios[1].mean(0)


def _input_channels(backbone: nn.Module) -> int:
    """Of the first convolution."""
    first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    return int(first.in_channels)


def _plain(name: str, tensor: Tensor) -> Tensor:
    """What stands in for a weight: 0 for what is added, 1 for what is multiplied; takes no memory."""
    if not tensor.is_floating_point():
        return tensor
    is_added = any(part in name for part in ("bias", "embed", "token", "pos", "running_mean"))
    value = 0.0 if is_added else 1.0
    return torch.full((), value, dtype=torch.float64, device=tensor.device).expand(tensor.shape)

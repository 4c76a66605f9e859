"""The classifier's side of distillation: standardised features of its stages, on the detector's grids."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cxr.imaging.equalise import equalised
from cxr.imaging.geometry import Resize
from stage1_classify.model.loading import Member
from stage1_classify.model.stages import stage_maps

_MIN_STD = 1e-6


@dataclass(frozen=True)
class Standardisation:
    """Per stride: mean and standard deviation (1, C, 1, 1) of each channel."""

    mean: list[Tensor]
    std: list[Tensor]


class Teacher:
    """Features of one network at the strides of the detector.

    A picture of the detector is shown to the classifier at the classifier's own size and normalisation, squashed or
    letterboxed as in its training. For each stride, the features are those of the last stage of the classifier at that
    stride or a finer one, or of its finest stage. They are sampled bilinearly at the cells of the detector's grid.

    Args:
        frame_hw: height and width of the detector's pictures.
        strides: of the detector's layers.
    """

    def __init__(self, member: Member, frame_hw: tuple[int, int], strides: Sequence[int], device: torch.device) -> None:
        self._backbone = member.model.backbone.eval().to(device)
        self._backbone.to(memory_format=torch.channels_last)
        self._input, self._num_channels = member.input, member.num_channels
        self._resize = Resize(frame_hw, member.input.size_hw, member.input.keep_aspect)
        self._strides, self._device = strides, device
        self._scale: Standardisation | None = None

    @property
    def name(self) -> str:
        """Network and input size, for the log."""
        height, width = self._resize.net_hw
        return f"{self._backbone.settings.name} at {height} x {width}"

    @torch.no_grad()
    def standardise_by(self, batches: Iterable[Tensor]) -> list[int]:
        """Measure mean and standard deviation of each channel on batches of pictures; returns the number of channels
        per stride. A constant channel becomes 0."""
        count, sums, squares = 0, [torch.zeros(())] * len(self._strides), [torch.zeros(())] * len(self._strides)
        for pictures in batches:
            count += len(pictures)
            for place, features in enumerate(self._features(pictures)):
                sums[place] = sums[place] + _sum_of_means(features)
                squares[place] = squares[place] + _sum_of_means(features.square())
        means = [total / count for total in sums]
        variances = [square / count - mean.square() for square, mean in zip(squares, means, strict=True)]
        stds = [variance.clamp(min=_MIN_STD**2).sqrt() for variance in variances]
        shown = [[one.float().reshape(1, -1, 1, 1).to(self._device) for one in part] for part in (means, stds)]
        self._scale = Standardisation(*shown)
        return [len(one) for one in means]

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> list[Tensor]:
        """(B, 1, H, W) in [0, 1] to the standardised features (B, C, H / stride, W / stride) of each stride."""
        assert self._scale is not None, "call standardise_by first"
        features = self._features(pictures)
        triples = zip(features, self._scale.mean, self._scale.std, strict=True)
        return [(one - mean) / std for one, mean, std in triples]

    def _features(self, pictures: Tensor) -> list[Tensor]:
        maps = stage_maps(self._backbone, self._network_input(pictures))
        chosen = [deepest_map(maps, self._resize.net_hw[0], stride).float() for stride in self._strides]
        grids = [(pictures.shape[2] // stride, pictures.shape[3] // stride) for stride in self._strides]
        return [on_grid(one, self._resize, grid_hw) for one, grid_hw in zip(chosen, grids, strict=True)]

    def _network_input(self, pictures: Tensor) -> Tensor:
        """The pictures as the classifier sees them: (B, num_channels, h, w), normalised."""
        content = pictures
        if self._resize.content_hw != tuple(pictures.shape[2:]):
            content = nn.functional.interpolate(pictures, self._resize.content_hw, mode="bilinear", antialias=True)
        (top, left), (height, width) = self._resize.offset_yx, self._resize.net_hw
        bottom, right = height - top - content.shape[2], width - left - content.shape[3]
        planes = self._equalised(nn.functional.pad(content, (left, right, top, bottom)))
        values = (self._input.mean, self._input.std)
        mean, std = (torch.tensor(list(one), device=self._device).reshape(1, -1, 1, 1) for one in values)
        return ((planes - mean) / std).expand(-1, self._num_channels, -1, -1)

    def _equalised(self, pictures: Tensor) -> Tensor:
        if self._input.channels == "grey" and self._input.clahe_clip is None:
            return pictures
        levels = (pictures * 255).round().to(torch.uint8).cpu().numpy()
        planes = np.stack([np.atleast_3d(equalised(one[0], self._input)) for one in levels])
        return torch.from_numpy(planes).permute(0, 3, 1, 2).to(self._device).float() / 255


def _sum_of_means(features: Tensor) -> Tensor:
    """(C,) float64 on the CPU: the mean over the cells of each picture, summed over the pictures."""
    return features.mean((2, 3)).double().cpu().sum(0)


def deepest_map(maps: Sequence[Tensor], height: int, stride: int) -> Tensor:
    """The last map at `stride` or a finer one; the finest if all are coarser. height: of the network's input."""
    strides = [round(height / one.shape[2]) for one in maps]
    fine = [place for place, own in enumerate(strides) if own <= stride]
    return maps[fine[-1]] if fine else maps[strides.index(min(strides))]


def on_grid(features: Tensor, resize: Resize, grid_hw: tuple[int, int]) -> Tensor:
    """(B, C, h, w) over the classifier's input, with its bars, to (B, C, *grid_hw) over the detector's picture.

    resize: from the detector's picture to the classifier's input.
    """
    if resize.content_hw == resize.net_hw and tuple(features.shape[2:]) == grid_hw:
        return features
    shares = [content / whole for content, whole in zip(resize.content_hw, resize.net_hw, strict=True)]
    # grid_sample's coordinates run from -1 to 1 over the whole map
    shifts = [
        2 * offset / whole + share - 1
        for offset, whole, share in zip(resize.offset_yx, resize.net_hw, shares, strict=True)
    ]
    matrix = torch.tensor([[shares[1], 0, shifts[1]], [0, shares[0], shifts[0]]], device=features.device)
    grid = nn.functional.affine_grid(matrix.expand(len(features), 2, 3), [len(features), 1, *grid_hw], False)
    sampled: Tensor = nn.functional.grid_sample(features, grid, padding_mode="border", align_corners=False)
    return sampled

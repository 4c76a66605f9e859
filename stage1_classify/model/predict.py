"""Logits of a classifier for the images of a data set."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cxr.progress import track
from stage1_classify.model.classifier import Classifier
from stage1_classify.settings.classifier import Flip

_BATCH = 64


class PictureSource(Protocol):
    """`Pictures`, or a part of them."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int], num_channels: int) -> Tensor:
        """(B, num_channels, H, W) of the pictures at `indices`."""
        ...


@torch.inference_mode()
def predict_logits(
    model: Classifier,
    pictures: PictureSource,
    *,
    num_channels: int,
    device: torch.device | str = "cpu",
    flips: Sequence[Flip] = ("none",),
    progress: bool = False,
) -> npt.NDArray[np.float32]:
    """(N, K) float32 logits in the order of `pictures`. Leaves the model in evaluation mode.

    Args:
        flips: test-time augmentation: the logits are averaged over these views of each image.
    """
    model.eval()
    parts = [np.zeros((0, len(model.findings)), dtype=np.float32)]
    starts = range(0, len(pictures), _BATCH)
    for start in track(starts, "predicting", show=progress):
        indices = range(start, min(start + _BATCH, len(pictures)))
        images = pictures.batch(indices, num_channels).to(device)
        logits = torch.stack([model(flipped(images, flip)).float() for flip in flips]).mean(0)
        parts.append(logits.cpu().numpy())
    return np.concatenate(parts)


def flipped(images: Tensor, flip: Flip) -> Tensor:
    """Images or maps (..., H, W), flipped. Flipping twice gives them back."""
    return images.flip(-1) if flip == "horizontal" else images

"""Logits of a classifier for the images of a data set."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cxr.arrays import Float32s
from cxr.imaging.pictures import Pictures
from cxr.progress import track
from stage1_classify.model.classifier import Classifier
from stage1_classify.settings.classifier import Flip

_BATCH = 64


@torch.inference_mode()
def predict_logits(
    model: Classifier,
    pictures: Pictures,
    *,
    num_channels: int,
    rows: Sequence[int] | None = None,
    flips: Sequence[Flip] = ("none",),
    progress: bool = False,
) -> Float32s:
    """(N, K) logits in the order of `pictures`, on the model's device. Leaves the model in evaluation mode.

    Args:
        rows: predict only these pictures, in this order.
        flips: test-time augmentation: the logits are averaged over these views of each image.
    """
    model.eval()
    parts = [np.zeros((0, len(model.findings)), dtype=np.float32)]
    device = next(model.parameters()).device
    rows = range(len(pictures)) if rows is None else rows
    for start in track(range(0, len(rows), _BATCH), "predicting", show=progress):
        chosen = rows[start : start + _BATCH]
        images, lateral = pictures.batch(chosen, num_channels).to(device), pictures.are_lateral(chosen).to(device)
        logits = torch.stack([model(flipped(images, flip), lateral).float() for flip in flips]).mean(0)
        parts.append(logits.cpu().numpy())
    return np.concatenate(parts)


def flipped(images: Tensor, flip: Flip) -> Tensor:
    """Images or maps (..., H, W), flipped. Flipping twice gives them back."""
    return images.flip(-1) if flip == "horizontal" else images

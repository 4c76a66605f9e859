"""Logits of a classifier over the pictures of a data set."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from cxr.progress import track
from stage1_classify.pictures import Pictures


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    pictures: Pictures,
    *,
    num_channels: int,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    progress: bool = False,
) -> npt.NDArray[np.float32]:
    """(N, K) float32 logits in the order of `pictures`; leaves the model in evaluation mode."""
    model.eval()
    parts: list[npt.NDArray[np.float32]] = []
    starts = range(0, len(pictures), batch_size)
    for start in track(starts, "predicting", show=progress):
        indices = range(start, min(start + batch_size, len(pictures)))
        images = pictures.batch(indices, num_channels).to(device)
        parts.append(model(images).float().cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)


def sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Probabilities in (0, 1), stable for large logits of either sign."""
    values = np.asarray(logits, dtype=np.float64)
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))


def prediction_table(
    image_ids: list[str], probabilities: npt.NDArray[np.float64], findings: list[str]
) -> pd.DataFrame:
    """One row an image: image_id, then one probability a finding."""
    table = pd.DataFrame(probabilities, columns=findings)
    table.insert(0, "image_id", image_ids)
    return table

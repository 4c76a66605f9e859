"""Binary cross-entropy with masks, soft targets and capped positive weights."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional


def positive_weights(targets: npt.NDArray[np.float32], *, cap: float) -> npt.NDArray[np.float32]:
    """N- / N+ a class over the *whole* training set, at most `cap`.

    From the whole set and never from a batch, so that the loss does not depend on the number of processes.

    Args:
        targets: (N, K) in [0, 1], NaN where masked. Soft targets count by their value.

    Returns:
        (K,) in (0, cap]; 1 for a class without a positive or without a negative.
    """
    positives = np.nansum(targets, axis=0)
    negatives = np.nansum(1 - targets, axis=0)
    usable = (positives > 0) & (negatives > 0)
    ratio = np.divide(negatives, positives, out=np.ones_like(positives), where=usable)
    return np.minimum(ratio, cap).astype(np.float32)


def masked_bce(logits: Tensor, targets: Tensor, *, positive_weight: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean binary cross-entropy over a batch; masked targets cost nothing.

    The sum is divided by B * K and not by the number of unmasked targets: then the mean over several processes
    with equal batches equals the loss of one process with all of them.

    Args:
        logits: (B, K).
        targets: (B, K) in [0, 1], NaN where masked.
        positive_weight: (K,).
        smoothing: targets move this far towards 1/2.
    """
    mask = ~torch.isnan(targets)
    soft = torch.nan_to_num(targets) * (1 - 2 * smoothing) + smoothing
    cost = functional.binary_cross_entropy_with_logits(
        logits.float(), soft, pos_weight=positive_weight, reduction="none"
    )
    return (cost * mask).mean()

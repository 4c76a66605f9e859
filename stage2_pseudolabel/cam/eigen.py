"""CAM methods that use the first principal component of the positions' feature vectors.

A principal component has no sign. pytorch-grad-cam uses that of the SVD routine, so its map may show the background.
Here the map's correlation with the sum of the channels is not negative (for EigenGradCAM that sum is the HiResCAM map).
If it is 0, the entry of greatest magnitude is positive.
"""

import torch
from torch import Tensor


def eigencam(features: Tensor, num_classes: int) -> Tensor:
    """EigenCAM: relu of the projection of the centred features on their first principal direction.

    Muhammad and Yeasin, "Eigen-CAM", IJCNN 2020, https://arxiv.org/abs/2008.00299. It does not depend on the class:
    the map (B, h, w) of features (B, C, h, w) is repeated as (B, K, h, w) for K = `num_classes`.

    Example:
        >>> eigencam(torch.rand(2, 8, 4, 5), num_classes=3).shape
        torch.Size([2, 3, 4, 5])
    """
    maps = principal_projection(features).relu_()
    return maps.unsqueeze(1).repeat(1, num_classes, 1, 1)


def eigengradcam(features: Tensor, gradients: Tensor) -> Tensor:
    """EigenGradCAM: EigenCAM of g_c x_c instead of x_c.

    A method of pytorch-grad-cam, after Muhammad and Yeasin 2020, https://arxiv.org/abs/2008.00299.
    features (B, C, h, w), gradients (B, K, C, h, w) -> maps (B, K, h, w).
    """
    return principal_projection(gradients * features.unsqueeze(1)).relu_()


def principal_projection(stack: Tensor) -> Tensor:
    """Projection of the h * w vectors of (..., C, h, w) on their first principal direction -> (..., h, w).

    Vectors are centred over the positions first, so a constant stack gives zeros. Values are u sigma of the SVD of the
    (h * w, C) matrix. They come from the Gram matrix of the smaller side, in float64 as squaring halves the digits.
    """
    flat = stack.flatten(-2)
    centred = flat - flat.mean(-1, keepdim=True)
    # Gradients may be tiny: keep squares in range.
    scale = torch.maximum(centred.amax((-2, -1), keepdim=True), -centred.amin((-2, -1), keepdim=True))
    columns = centred.div_(torch.where(scale == 0, 1.0, scale)).double()
    projection = _first_scores(columns) * scale.squeeze(-1)
    oriented = projection * _sign(projection, columns.sum(-2))
    return oriented.reshape(stack.shape[:-3] + stack.shape[-2:]).to(stack.dtype)


def _first_scores(columns: Tensor) -> Tensor:
    """u sigma of the greatest singular value of the transpose of centred (..., C, n) -> (..., n), with either sign."""
    channels, positions = columns.shape[-2:]
    if positions > channels:
        columns = columns - columns.mean(-1, keepdim=True)
        direction: Tensor = torch.linalg.eigh(columns @ columns.mT).eigenvectors[..., -1:]
        return (columns.mT @ direction).squeeze(-1)
    gram = columns.mT @ columns
    # remove the rest of the mean that rounding left, which is cheap here
    gram = gram - gram.mean(-1, keepdim=True)
    values, vectors = torch.linalg.eigh(gram - gram.mean(-2, keepdim=True))
    scores: Tensor = vectors[..., -1] * values[..., -1:].clamp_min(0).sqrt()
    return scores


def _sign(projection: Tensor, channel_sum: Tensor) -> Tensor:
    """+1 or -1, shape (..., 1), that orients projection (..., n) by the rule of the module."""
    agreement = (projection * channel_sum).sum(-1, keepdim=True)
    strongest = projection.gather(-1, projection.abs().argmax(-1, keepdim=True))
    return torch.where(torch.where(agreement == 0, strongest, agreement) < 0, -1.0, 1.0)

"""CAM methods that need only the last features and the gradients of the logits.

`features` are (B, C, h, w) and `gradients` (B, K, C, h, w), of logit k of image b with respect to the features of image
b. The result is `maps` (B, K, h, w) with absolute values (no min-max). Everything is float32. Maps agree with those of
pytorch-grad-cam before its scaling. In the formulas x_c is channel c of the features and g_c its gradient.

Example:
    >>> features, gradients = torch.rand(2, 8, 4, 5), torch.rand(2, 3, 8, 4, 5)
    >>> layercam(features, gradients).shape
    torch.Size([2, 3, 4, 5])
"""

import torch
from torch import Tensor

from stage1_classify.model.heads import Head

# pytorch-grad-cam's constants, which determine the map where gradients or sums are tiny.
_PLUSPLUS_EPS = 1e-6
_XGRAD_EPS = 1e-7


def gradcam(features: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM: relu(sum_c mean_ij(g_c) x_c).

    Selvaraju et al., "Grad-CAM", ICCV 2017, https://arxiv.org/abs/1610.02391.
    """
    return _weighted_sum(features, gradients.mean((-2, -1)))


def hirescam(features: Tensor, gradients: Tensor) -> Tensor:
    """HiResCAM: relu(sum_c g_c x_c), element by element.

    Draelos and Carin, "Use HiResCAM instead of Grad-CAM", 2020, https://arxiv.org/abs/2011.08891.
    """
    return (gradients * features.unsqueeze(1)).sum(2).relu_()


def gradcamelementwise(features: Tensor, gradients: Tensor) -> Tensor:
    """Element-wise Grad-CAM: sum_c relu(g_c x_c).

    A method of pytorch-grad-cam (Gildenblat et al., 2021, https://github.com/jacobgil/pytorch-grad-cam).
    """
    return (gradients * features.unsqueeze(1)).relu_().sum(2)


def gradcamplusplus(features: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++: relu(sum_c w_c x_c), w_c = sum_ij relu(g_c) g_c^2 / (2 g_c^2 + g_c^3 sum_ij x_c + 1e-6).

    Chattopadhay et al., "Grad-CAM++", WACV 2018, https://arxiv.org/abs/1710.11063, equation 19.
    """
    totals = features.sum((-2, -1))[:, None, :, None, None]
    squared = gradients.square()
    # Where sums of features are negative (ConvNeXt) the denominator can be exactly zero: divide by eps instead.
    denominator = (squared * gradients).mul_(totals).add_(squared, alpha=2).add_(_PLUSPLUS_EPS)
    denominator.masked_fill_(denominator == 0, _PLUSPLUS_EPS)
    weights = squared.div_(denominator).mul_(gradients.relu()).sum((-2, -1))
    return _weighted_sum(features, weights)


def xgradcam(features: Tensor, gradients: Tensor) -> Tensor:
    """XGrad-CAM: relu(sum_c w_c x_c), w_c = sum_ij g_c x_c / (sum_ij x_c + 1e-7).

    Fu et al., "Axiom-based Grad-CAM", BMVC 2020, https://arxiv.org/abs/2008.02312.
    """
    totals = features.sum((-2, -1)) + _XGRAD_EPS
    totals = totals.masked_fill(totals == 0, _XGRAD_EPS)
    attributions = (gradients * features.unsqueeze(1)).sum((-2, -1))
    return _weighted_sum(features, attributions / totals.unsqueeze(1))


def layercam(features: Tensor, gradients: Tensor) -> Tensor:
    """LayerCAM: relu(sum_c relu(g_c) x_c).

    Jiang et al., "LayerCAM", IEEE TIP 2021, https://ieeexplore.ieee.org/document/9462463.
    """
    return gradients.relu().mul_(features.unsqueeze(1)).sum(2).relu_()


def pcam(features: Tensor, head: Head) -> Tensor:
    """PCAM probability map: sigmoid(s), s = the head's 1x1 convolution of the features.

    Ye et al., "Weakly supervised lesion localization with probabilistic-CAM pooling", 2020,
    https://arxiv.org/abs/2005.14480. Maps are in [0, 1] and comparable between images. With a head other than PCAM they
    are the probabilities of single cells.
    """
    return torch.sigmoid(head.classifier(features))


def _weighted_sum(features: Tensor, weights: Tensor) -> Tensor:
    """relu(sum_c w_c x_c) for features (B, C, h, w) and weights (B, K, C) -> (B, K, h, w)."""
    maps: Tensor = torch.unflatten(weights @ features.flatten(2), -1, features.shape[-2:])
    return maps.relu_()

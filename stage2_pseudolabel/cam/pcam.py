"""The probability map of a probabilistic-CAM head, which needs no explanation method at all."""

import torch
from torch import Tensor

from stage1_classify.model.heads import Head


def pcam(features: Tensor, head: Head) -> Tensor:
    """PCAM probability map: sigmoid(s), s = the head's 1x1 convolution of the features.

    Ye et al., "Weakly supervised lesion localization with probabilistic-CAM pooling", 2020,
    https://arxiv.org/abs/2005.14480. features (B, C, h, w) -> maps (B, K, h, w) in [0, 1], comparable
    between images. With a head other than PCAM it is the probability that the classifier gives a cell alone.
    """
    return torch.sigmoid(head.classifier(features))

"""Deep Feature Factorization: the image's concepts by non-negative matrix factorisation, weighted by their classes."""

import warnings

import torch
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from stage1_classify.model.heads import Head


def dff(features: Tensor, head: Head, *, dff_components: int = 5) -> Tensor:
    r"""Deep Feature Factorization: class maps as concept heat maps weighted by the concepts' class probabilities.

    Collins, Achanta and Suesstrunk, "Deep Feature Factorization for Concept Discovery", ECCV 2018,
    https://arxiv.org/abs/1806.10206. Each image's features, minus the minimum of each channel, are factorised into
    concepts W (C, n) and heat maps H (n, h, w), both non-negative, as pytorch-grad-cam does it:

    .. math:: M_k = \sum_n P(k | n) \, H_n / \max H_n

    P(k | n) is the probability that the head gives the concept at its strongest cell, W_n max(H_n) + min(x). Heat maps
    are divided by their maximum because the scale between W and H is arbitrary; class maps are not scaled further.

    Args:
        features: (B, C, h, w).
        head: gives the logits (B, K) of features.
        dff_components: n.

    Returns:
        Maps (B, K, h, w) in [0, n]; zeros where the features of an image are constant.
    """
    offset = features.flatten(2).amin(2, keepdim=True)
    concepts, heat = factorise(features.flatten(2) - offset, dff_components)
    peaks = heat.amax(-1)
    with torch.no_grad():
        embeddings = (concepts * peaks[:, None] + offset).mT  # (B, n, C)
        logits = head(embeddings.flatten(0, 1)[:, :, None, None]).logits
    scores = torch.sigmoid(logits).reshape(*embeddings.shape[:2], -1)
    scaled = heat / torch.where(peaks == 0, 1.0, peaks)[..., None]
    return (scores.mT @ scaled).reshape(len(features), -1, *features.shape[-2:])


def factorise(matrices: Tensor, num_components: int) -> tuple[Tensor, Tensor]:
    """Non-negative factors W (B, C, n) and H (B, n, m) of matrices (B, C, m) >= 0, each factorised alone."""
    factors = []
    for matrix in matrices.cpu().numpy():
        model = NMF(num_components, init="random", random_state=0)
        with warnings.catch_warnings():
            # 200 iterations, as in pytorch-grad-cam; the factors hardly change at the end.
            warnings.simplefilter("ignore", ConvergenceWarning)
            concepts = model.fit_transform(matrix)
        factors.append((torch.from_numpy(concepts), torch.from_numpy(model.components_)))
    w, h = (torch.stack(parts).to(matrices) for parts in zip(*factors, strict=True))
    return w, h

"""Pooling heads: one shared 1x1 classifier, then a rule that pools its logit map into one logit a class."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cxr.config import UserError


class HeadOutput(NamedTuple):
    """logits (B, K) and the logit maps (B, K, h, w) that they were pooled from; both float32."""

    logits: Tensor
    maps: Tensor


def pool_pcam(maps: Tensor) -> Tensor:
    """Probabilistic-CAM pooling (Ye et al. 2020, arXiv:2005.14480): maps s (B, K, h, w) to logits (B, K).

    With p = sigmoid(s) and a = p / sum p the pooled feature is sum a x, and the classifier that gave s gives the
    logit; by linearity that is z = sum a s. In log space, log a = logsigmoid(s) - logsumexp(logsigmoid(s)), which
    is exact and stays finite where p underflows (an epsilon would not be exact, 0/0 would be NaN).
    """
    scores = maps.flatten(2).float()
    weights = torch.softmax(functional.logsigmoid(scores), dim=-1)
    return (weights * scores).sum(-1)


def pool_average(maps: Tensor) -> Tensor:
    """Global average pooling: z = mean s (Zhou et al. 2016); maps (B, K, h, w) to logits (B, K)."""
    return maps.flatten(2).float().mean(-1)


POOLINGS: Mapping[str, Callable[[Tensor], Tensor]] = {"pcam": pool_pcam, "average": pool_average}


class Head(nn.Module):
    """1x1 classifier and pooling rule. Computes in float32 also under mixed precision.

    Args:
        num_features: channels C of the features.
        num_findings: K.
        kind: a name of POOLINGS.
        dropout: probability that a feature channel is dropped in training.
    """

    def __init__(
        self, num_features: int, num_findings: int, *, kind: str = "pcam", dropout: float = 0.0
    ) -> None:
        super().__init__()
        if kind not in POOLINGS:
            raise UserError(f"head.kind: got {kind!r}, expected one of {', '.join(POOLINGS)}")
        self.pool = POOLINGS[kind]
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(num_features, num_findings, kernel_size=1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features: Tensor) -> HeadOutput:
        """features (B, C, h, w) to logits (B, K) and maps (B, K, h, w)."""
        with torch.autocast(features.device.type, enabled=False):
            maps = self.classifier(self.dropout(features.float()))
            return HeadOutput(self.pool(maps), maps)

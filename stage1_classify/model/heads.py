"""Pooling heads: one shared 1x1 classifier, then a rule that pools the logit map of each class into one logit.

s is the logit map of a class, s_i its value in cell i of n; sums and means run over the cells. All rules give s where
every cell has the same s, and a logit between the lowest and the highest s_i.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from stage1_classify.settings.classifier import HeadSettings


class HeadOutput(NamedTuple):
    """logits (B, K) and the logit maps (B, K, h, w) that they were pooled from; both float32."""

    logits: Tensor
    maps: Tensor


def pool_average(maps: Tensor) -> Tensor:
    """Global average pooling: z = mean s (Zhou et al. 2016, arXiv:1512.04150); maps (B, K, h, w) to logits (B, K)."""
    return _cells(maps).mean(-1)


def pool_max(maps: Tensor) -> Tensor:
    """Global max pooling: z = max s (Oquab et al., CVPR 2015); maps (B, K, h, w) to logits (B, K).

    Cells that share the highest value share the gradient.
    """
    return _cells(maps).amax(-1)


def pool_lse(maps: Tensor, *, gamma: float) -> Tensor:
    """Log-sum-exp pooling: z = log(mean exp(gamma s)) / gamma; maps (B, K, h, w) to logits (B, K).

    Pinheiro and Collobert 2015, arXiv:1411.6228; for chest X-rays Wang et al. 2017, arXiv:1705.02315. Towards
    gamma = 0 the average, towards infinity the maximum.
    """
    scores = _cells(maps)
    return (torch.logsumexp(gamma * scores, dim=-1) - math.log(scores.shape[-1])) / gamma


def pool_exp(maps: Tensor) -> Tensor:
    """Exponential softmax pooling: z = sum a s with a = softmax(s); maps (B, K, h, w) to logits (B, K).

    McFee, Salamon and Bello 2018, arXiv:1804.10070 (there of probabilities, here of logits).
    """
    scores = _cells(maps)
    return _weighted_mean(scores, torch.softmax(scores, dim=-1))


def pool_linear(maps: Tensor) -> Tensor:
    """Linear softmax pooling: P = sum p^2 / sum p with p = sigmoid(s), as the logit of P; maps (B, K, h, w) to (B, K).

    Wang, Li and Metze 2019, arXiv:1810.09050. Since 1 - P = sum p (1 - p) / sum p, the denominators cancel:
    logit P = logsumexp(2 log p) - logsumexp(log p + log(1 - p)), which stays exact where P rounds to 0 or 1.
    """
    scores = _cells(maps)
    log_p, log_not_p = functional.logsigmoid(scores), functional.logsigmoid(-scores)
    return torch.logsumexp(2 * log_p, dim=-1) - torch.logsumexp(log_p + log_not_p, dim=-1)


def pool_pcam(maps: Tensor) -> Tensor:
    """Probabilistic-CAM pooling (Ye et al. 2020, arXiv:2005.14480): maps s (B, K, h, w) to logits (B, K).

    With p = sigmoid(s) and a = p / sum p the pooled feature is sum a x, and the classifier that gave s gives the
    logit; by linearity that is z = sum a s. In log space, log a = logsigmoid(s) - logsumexp(logsigmoid(s)), which
    is exact and stays finite where p underflows (an epsilon would not be exact, 0/0 would be NaN).
    """
    scores = _cells(maps)
    return _weighted_mean(scores, torch.softmax(functional.logsigmoid(scores), dim=-1))


def pool_attention(maps: Tensor, scores: Tensor) -> Tensor:
    """z = sum a s with a = softmax(scores) (see GatedAttention); maps and scores (B, K, h, w) to logits (B, K)."""
    return _weighted_mean(_cells(maps), torch.softmax(_cells(scores), dim=-1))


POOLINGS: Mapping[str, Callable[..., Tensor]] = {
    "average": pool_average,
    "max": pool_max,
    "lse": pool_lse,
    "exp": pool_exp,
    "linear": pool_linear,
    "pcam": pool_pcam,
    "attention": pool_attention,
}


class GatedAttention(nn.Module):
    """Gated attention: a_k = softmax over cells of w_k . (tanh(V x) * sigmoid(U x)), one per class.

    Ilse, Tomczak and Welling 2018, arXiv:1802.04712, equation 9. All classes share V and U (D, C). The pooled feature
    is sum a_k x; the classifier is linear and the a_k sum to 1, so its logit is z_k = sum a_k s_k.

    Args:
        num_features: C. num_classes: rows of w. width: D.
    """

    def __init__(self, num_features: int, num_classes: int, *, width: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(num_features, 2 * width, kernel_size=1, bias=False)
        self.scores = nn.Conv2d(width, num_classes, kernel_size=1, bias=False)

    def forward(self, gates: Tensor) -> Tensor:
        """From V x and U x (B, 2 D, h, w), the output of `gates`, to scores (B, num_classes, h, w) for a softmax."""
        value, gate = gates.chunk(2, dim=1)
        scores: Tensor = self.scores(torch.tanh(value) * torch.sigmoid(gate))
        return scores


class Head(nn.Module):
    """1x1 classifier and pooling rule. Computes in float32, also in mixed precision.

    The head uses the features x only through its *projection*, which is affine in x: the logit maps and, for attention,
    V x and U x. `pool` turns the projection into logits. The logits without channel c are therefore
    `pool(projection - projection_weight[:, c] x_c)` for every kind of head.

    Args:
        num_features: channels C of the features.
        num_findings: K.
        num_uncertain: U, findings with a third class, uncertain (U-MultiClass, Irvin et al. 2019, arXiv:1901.07031).
            Its logits come from a second 1x1 classifier and the same pooling rule.
    """

    def __init__(self, num_features: int, num_findings: int, *, settings: HeadSettings, num_uncertain: int = 0) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(settings.dropout)
        self.classifier = nn.Conv2d(num_features, num_findings, kernel_size=1)
        # Not a Conv2d: FullGrad treats every Conv2d with a bias as part of the forward pass that it explains.
        self.uncertain = nn.Linear(num_features, num_uncertain) if num_uncertain else None
        self.attention: GatedAttention | None = None
        if settings.kind == "attention":
            classes = num_findings + num_uncertain
            self.attention = GatedAttention(num_features, classes, width=settings.attention_features)
        rule = POOLINGS[settings.kind]
        self._rule = partial(rule, gamma=settings.lse_gamma) if settings.kind == "lse" else rule
        for layer in (self.classifier, self.uncertain):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(cast(Tensor, layer.bias))

    def forward(self, features: Tensor) -> HeadOutput:
        """features (B, C, h, w) to logits (B, K) and maps (B, K, h, w)."""
        with torch.autocast(features.device.type, enabled=False):
            projection = self.project(features)
            return HeadOutput(self.pool(projection), projection[:, : self.classifier.out_channels])

    def project(self, features: Tensor) -> Tensor:
        """features (B, C, h, w) to (B, P, h, w), float32: K logit maps, then 2 D gates (attention only)."""
        features = self.dropout(_at_least_float32(features))
        maps = self.classifier(features)
        return maps if self.attention is None else torch.cat([maps, self.attention.gates(features)], dim=1)

    @property
    def projection_weight(self) -> Tensor:
        """(P, C): what one unit of each feature channel adds to the projection."""
        gates = [] if self.attention is None else [self.attention.gates.weight]
        return torch.cat([self.classifier.weight, *gates]).flatten(1)

    def pool(self, projection: Tensor) -> Tensor:
        """projection (B, P, h, w) to logits (B, K)."""
        num_findings = self.classifier.out_channels
        projection = _at_least_float32(projection)
        maps, gates = projection[:, :num_findings], projection[:, num_findings:]
        return self._pool(maps, gates, slice(num_findings))

    def uncertain_logits(self, features: Tensor) -> Tensor:
        """features (B, C, h, w) to the logits (B, U) of the uncertain classes, float32; U may be 0."""
        with torch.autocast(features.device.type, enabled=False):
            features = self.dropout(_at_least_float32(features))
            if self.uncertain is None:
                return features.new_empty(len(features), 0)
            maps = functional.conv2d(features, self.uncertain.weight[:, :, None, None], self.uncertain.bias)
            gates = None if self.attention is None else self.attention.gates(features)
            return self._pool(maps, gates, slice(self.classifier.out_channels, None))

    def _pool(self, maps: Tensor, gates: Tensor | None, classes: slice) -> Tensor:
        """Maps to logits. classes: the rows of the attention that belong to the maps."""
        if self.attention is None or gates is None:
            return self._rule(maps)
        return self._rule(maps, self.attention(gates)[:, classes])


def _weighted_mean(scores: Tensor, weights: Tensor) -> Tensor:
    """sum a s over the cells (B, K, n), where a sums to 1. The highest s is subtracted first: the rounding error of a
    large value that all cells share would otherwise look like a gradient of a."""
    highest = scores.detach().amax(-1, keepdim=True)
    return (weights * (scores - highest)).sum(-1) + highest.squeeze(-1)


def _cells(maps: Tensor) -> Tensor:
    """(B, K, h, w) to (B, K, h * w) in float32 (float64 stays)."""
    return _at_least_float32(maps).flatten(2)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))

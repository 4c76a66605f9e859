"""Multilabel losses with masked and soft targets, positive weights and an uncertain class."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cxr.arrays import Float32s
from cxr.labels import check_findings
from stage1_classify.data.targets import UNCERTAIN, three_class_columns
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.settings.training import LossSettings

_SMALL = 1e-12


def positive_weights(targets: Float32s, *, cap: float) -> Float32s:
    """N- / N+ per class over the whole training set, at most `cap`.

    Args:
        targets: (N, K) in [0, 1]; NaN (masked) and -1 (uncertain) do not count. Soft targets count by their value.

    Returns:
        (K,) in (0, cap]; 1 for a class without a positive or without a negative.
    """
    certain = targets >= 0
    positives = np.where(certain, targets, 0).sum(axis=0, dtype=np.float64)
    negatives = certain.sum(axis=0) - positives
    usable = (positives > 0) & (negatives > 0)
    ratio = np.divide(negatives, positives, out=np.ones_like(positives), where=usable)
    return np.asarray(np.minimum(ratio, cap), dtype=np.float32)


class MultilabelLoss(nn.Module):
    """Mean loss of a batch over cases and findings. Masked targets have no loss.

    The sum is divided by B * K, not by the number of unmasked targets, so that several processes get the loss of one.

    A finding with an uncertain class has three logits: z for positive, u for uncertain, and 0 for negative. Its loss is
    the cross-entropy over the three in two parts: positive against negative by `settings.kind`, only where certain,
    plus certain against uncertain. Therefore sigmoid(z) = P(positive | certain), as for the other findings.

    Args:
        findings: the K names.
        positive_weight: (K,), weights of the loss of positives.
        uncertain_columns: the U columns with an uncertain class, in the order of their logits.

    Raises:
        UserError: `class_weights` names an unknown finding.
    """

    class_weight: Tensor
    positive_weight: Tensor
    uncertain_columns: Tensor

    def __init__(
        self,
        settings: LossSettings,
        *,
        findings: Sequence[str],
        positive_weight: Tensor | Float32s,
        uncertain_columns: Sequence[int] = (),
    ) -> None:
        super().__init__()
        check_findings(settings.class_weights, findings, source="loss.class_weights")
        self._settings = settings
        weights = [settings.class_weights.get(finding, 1.0) for finding in findings]
        self.register_buffer("class_weight", torch.tensor(weights))
        self.register_buffer("positive_weight", torch.as_tensor(positive_weight, dtype=torch.float32))
        self.register_buffer("uncertain_columns", torch.tensor(list(uncertain_columns), dtype=torch.long))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Scalar loss of outputs (B, K + U) for targets (B, K) in [0, 1], NaN masked, -1 uncertain."""
        outputs, num_findings = outputs.float(), targets.shape[1]
        logits, uncertain_logits = outputs[:, :num_findings], outputs[:, num_findings:]
        certain = targets >= 0
        smoothing = self._settings.label_smoothing
        soft = torch.where(certain, targets, 0) * (1 - 2 * smoothing) + smoothing
        if self._settings.kind == "auc_margin":
            cost = auc_margin_cost(logits, targets, margin=self._settings.auc_margin).expand(targets.shape)
        else:
            cost = self._binary_cost(logits, soft) * certain
        columns = self.uncertain_columns
        uncertain = certainty_cost(logits[:, columns], uncertain_logits, targets[:, columns])
        return (cost.index_add(1, columns, uncertain) * self.class_weight).mean()

    def _binary_cost(self, logits: Tensor, targets: Tensor) -> Tensor:
        settings = self._settings
        if settings.kind == "bce":
            return functional.binary_cross_entropy_with_logits(
                logits, targets, pos_weight=self.positive_weight, reduction="none"
            )
        if settings.kind == "focal":
            positive = focal_cost(logits, settings.focal_gamma)
            negative = focal_cost(-logits, settings.focal_gamma)
        else:
            positive = focal_cost(logits, settings.gamma_positive)
            negative = shifted_negative_cost(logits, settings.gamma_negative, margin=settings.probability_margin)
        return targets * self.positive_weight * positive + (1 - targets) * negative


def focal_cost(logits: Tensor, gamma: float) -> Tensor:
    """(1 - p)^gamma * -log p of a positive, p = sigmoid(logits): Lin et al. 2017 (arXiv:1708.02002), equation 4."""
    return -torch.exp(gamma * functional.logsigmoid(-logits)) * functional.logsigmoid(logits)


def shifted_negative_cost(logits: Tensor, gamma: float, *, margin: float) -> Tensor:
    """q^gamma * -log(1 - q) of a negative, q = max(sigmoid(logits) - margin, 0).

    The asymmetric loss: Ridnik et al. 2021 (arXiv:2009.14119), with its probability shift.
    """
    shifted = torch.sigmoid(logits) - margin
    counts = shifted > _SMALL
    focus = torch.where(counts, shifted, 1.0) ** gamma  # powers near 0 have no finite gradient
    log_margin = math.log(margin) if margin > 0 else -math.inf
    log_rest = torch.logaddexp(functional.logsigmoid(-logits), torch.full_like(logits, log_margin))
    return torch.where(counts, -focus * log_rest, 0.0)


def auc_margin_cost(logits: Tensor, targets: Tensor, *, margin: float) -> Tensor:
    """(K,) the AUC-margin loss of a batch of logits (B, K) with targets (B, K), NaN and -1 left out.

    Yuan et al. 2021 (arXiv:2012.03173): E[(p - a)^2 | positive] + E[(p - b)^2 | negative] + the maximum over
    alpha >= 0 of 2 alpha (margin - a + b) - alpha^2, with p = sigmoid(logits). At the best a, b and alpha of the batch,
    which have a closed form, this is the variance of p among positives plus that among negatives plus
    max(0, margin - a + b)^2, where a and b are the means. LibAUC ascends in alpha with an optimizer of its own instead.
    Targets from .5 are positive. 0 for a finding without positives or without negatives in the batch.
    """
    scores = torch.sigmoid(logits)
    positive, negative = targets >= 0.5, (targets >= 0) & (targets < 0.5)
    (mean_positive, var_positive), (mean_negative, var_negative) = (
        _moments(scores, side) for side in (positive, negative)
    )
    gap = torch.relu(margin - mean_positive + mean_negative)
    return (var_positive + var_negative + gap**2) * (positive.any(dim=0) & negative.any(dim=0))


def _moments(scores: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """(K,) mean and variance of the chosen scores (B, K) of each column; 0 where none is chosen."""
    number = chosen.sum(dim=0).clamp(min=1)
    mean = torch.where(chosen, scores, 0).sum(dim=0) / number
    return mean, torch.where(chosen, (scores - mean) ** 2, 0).sum(dim=0) / number


def certainty_cost(logits: Tensor, uncertain_logits: Tensor, targets: Tensor) -> Tensor:
    """-log P(uncertain) where the target is -1, else -log P(certain), 0 where masked, of a softmax over (0, z, u)."""
    cost = functional.binary_cross_entropy_with_logits(
        uncertain_logits - functional.softplus(logits), (targets == UNCERTAIN).to(logits.dtype), reduction="none"
    )
    return cost * ~torch.isnan(targets)


def training_loss(targets: Float32s, settings: Stage1Settings) -> MultilabelLoss:
    """The loss for a training set with these targets (N, K), from which the positive weights come."""
    return MultilabelLoss(
        settings.loss,
        findings=settings.findings,
        positive_weight=positive_weights(targets, cap=settings.loss.max_positive_weight),
        uncertain_columns=three_class_columns(settings.findings, settings.labels),
    )

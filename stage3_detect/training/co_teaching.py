"""Two networks that are trained on the same batches and leave out the boxes that the other one finds doubtful.

In each batch, either network computes its loss for every box, and the other one is trained without those whose loss is
highest. Noise that one network has begun to memorise thus does not reach the other. The share that is left out grows,
since networks learn what is regular before they learn noise. Only the first network, the detector, is kept.

Sources: Han et al., Co-teaching: Robust training of deep neural networks with extremely noisy labels, 2018; for boxes
arXiv:2511.09955.
"""

from typing import Any

import torch
from torch import Tensor
from ultralytics.utils.loss import E2ELoss

from stage3_detect.model.checkpoint import allowed_in_checkpoints
from stage3_detect.model.classifier_features import ClassifierFeatures
from stage3_detect.training.loss import NoisyLabelLoss, NoisyLabelModel

SingleLoss = NoisyLabelLoss | E2ELoss


@allowed_in_checkpoints
class CoTeachingModel(NoisyLabelModel):
    """The detector, with its peer as a submodule.

    peer: a network of the same layout. drop_rate: share of the boxes of a batch that are left out, in [0, 1].
    """

    peer: NoisyLabelModel
    drop_rate: float = 0.0

    def init_criterion(self) -> "PairLoss":  # type: ignore[override]  # what ultralytics uses of a loss is the same
        """Called by ultralytics before the first batch."""
        peer: Any = self.peer
        peer.args, peer.class_weights = self.args, getattr(self, "class_weights", None)
        return PairLoss(super().init_criterion(), peer.init_criterion())

    def loss(self, batch: dict[str, Any], preds: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """In training the sum of both networks' losses, with the detector's own parts to be logged; in validation
        the detector's loss."""
        if preds is not None or not self.training:
            loss: tuple[Tensor, dict[str, Tensor]] = super().loss(batch, preds)
            return loss
        if getattr(self, "criterion", None) is None:
            self.criterion = self.init_criterion()
        pair: PairLoss = self.criterion
        outputs = self.forward(batch["img"]), self.peer.forward(batch["img"])
        return pair.of_both(outputs, batch, drop_rate=self.drop_rate)


class PairLoss:
    """The losses of the detector and of its peer. Called, it is the detector's loss alone."""

    def __init__(self, own: SingleLoss, peers: SingleLoss) -> None:
        self._losses = own, peers

    def __call__(self, preds: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        return _loss_of(self._losses[0], preds, batch, left_out=None)

    def of_both(
        self, preds: tuple[Any, Any], batch: dict[str, Any], *, drop_rate: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the losses, each without the boxes that `doubtful` names by the other's loss; the detector's parts.

        preds: training outputs of the two networks.
        """
        both = list(zip(self._losses, preds, strict=True))
        named = [None, None] if drop_rate == 0 else [_doubtful_to(*one, batch, drop_rate) for one in both]
        own, peers = (_loss_of(*one, batch, left_out=out) for one, out in zip(both, reversed(named), strict=True))
        return own[0] + peers[0], own[1]

    @property
    def updates(self) -> int:
        """Number of finished epochs, which ultralytics sets when a training resumes."""
        return max((loss.updates for loss in self._losses if isinstance(loss, E2ELoss)), default=0)

    @updates.setter
    def updates(self, value: int) -> None:
        for loss in self._losses:
            if isinstance(loss, E2ELoss):
                loss.updates = value

    def update(self) -> None:
        """Called by ultralytics after each epoch: the weights of the two heads of one network change."""
        for loss in self._losses:
            if isinstance(loss, E2ELoss):
                loss.update()


def networks_in(model: Any) -> list[Any]:
    """The detector, and its peer if it has one."""
    return [model, model.peer] if isinstance(model, CoTeachingModel) else [model]


def copy_backbone(model: Any, peer: Any) -> None:
    """Start the peer's backbone from the detector's. Neck and head stay random: with equal weights, two networks that
    see the same batches would stay equal.

    Of a detector on a classifier's network, the backbone is that network alone."""
    number = 1 if isinstance(model.model[0], ClassifierFeatures) else len(model.yaml["backbone"])
    for own, other in zip(model.model[:number], peer.model[:number], strict=True):
        other.load_state_dict(own.state_dict())


def _loss_of(
    loss: SingleLoss, preds: Any, batch: dict[str, Any], *, left_out: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    for head in _heads(loss):
        head.assigner.left_out = left_out
    result: tuple[Tensor, dict[str, Tensor]] = loss(preds, batch)
    return result


@torch.no_grad()
def _doubtful_to(loss: SingleLoss, preds: Any, batch: dict[str, Any], rate: float) -> Tensor | None:
    _loss_of(loss, preds, batch, left_out=None)
    losses = _heads(loss)[0].assigner.box_losses
    return None if losses is None else doubtful(losses, rate)


def _heads(loss: SingleLoss) -> list[NoisyLabelLoss]:
    return [loss.one2many, loss.one2one] if isinstance(loss, E2ELoss) else [loss]


def doubtful(losses: Tensor, rate: float) -> Tensor:
    """(B, n) bool: the boxes of a batch with the highest loss, a share `rate` of them rounded down.

    losses: (B, n), NaN for what is no box or has no anchors, which is never doubtful.
    """
    known = losses.nan_to_num(-torch.inf).flatten()
    number = int(rate * int(losses.isfinite().sum()))
    named = torch.zeros_like(known, dtype=torch.bool)
    named[known.topk(number).indices] = True
    return named.reshape(losses.shape)


def drop_rate_at(epoch: int, num_epochs: int, *, rate: float) -> float:
    """0 in the first epoch (0), then growing evenly to `rate`, which is reached in the middle of the training."""
    return rate * min(1.0, epoch / max(1, num_epochs // 2))

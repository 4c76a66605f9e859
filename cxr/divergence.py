"""When a training has diverged: its loss grows, but stays finite."""

from collections.abc import Mapping

from cxr.config import UserError

LIMIT = 30.0
"""The highest relative loss that two epochs in a row may have."""

LIMIT_ONCE = 1e4
"""The highest relative loss that one epoch may have."""


def relative_loss(loss: float, constant_loss: float) -> float:
    """A loss in units of the loss that constant outputs have on the same batches; 0 if that is 0."""
    return loss / constant_loss if constant_loss > 0 else 0.0


def has_diverged(before: float, now: float) -> bool:
    """Whether a training has diverged, by the relative losses of two consecutive epochs.

    Either both are above `LIMIT`, and the second is not below the first, or the second is above `LIMIT_ONCE`.

    Constant outputs are within reach of every network, so a healthy training ends below 1. Noise, class weights, moving
    labels, a warm restart or another augmentation do not lift it to 30 for two epochs; the highest that was seen to
    learn, plain SGD on batches of 4, had 6. The constant outputs are measured with the loss and the labels of the epoch
    itself, so a curriculum may change them. A high learning rate can lift the mean of one epoch, the first for
    instance, by a few huge steps; a training that recovers from them falls, and goes on. The lowest loss so far plays
    no part: near 0 it multiplies easily, and does no harm.

    After a loss of 10,000 times that, the weights are so large that the training does not come back. A detector that
    had such a loss had exactly 0 in the next epoch: no anchor was assigned to a box any more.

    A loss that stays at that of constant outputs is not divergence but "did not learn".
    """
    return LIMIT < before <= now or now > LIMIT_ONCE


def divergence_error(
    subject: str,
    losses: Mapping[int, float],
    *,
    best_file: str | None = None,
    best_epoch: int | None = None,
    advice: str,
) -> UserError:
    """The error that ends a diverged training.

    Args:
        subject: what is trained.
        losses: relative losses by epoch, from 1: of the last one, and of the one before and of `best_epoch` if known.
        best_file: the checkpoint of the best epoch; None if the training keeps none.
        best_epoch: None if no epoch was chosen yet.
        advice: the setting to lower, and its value.
    """
    epoch = max(losses)
    earlier = f" ({losses[epoch - 1]:.3g} times in epoch {epoch - 1})" if epoch - 1 in losses else ""
    kept = ""
    if best_file is not None and best_epoch is None:
        kept = "; no epoch was chosen as the best yet"
    elif best_epoch is not None:
        times = f", with {losses[best_epoch]:.3g} times" if best_epoch in losses else ""
        kept = f"; {best_file} holds the best epoch, {best_epoch}{times}"
    return UserError(
        f"{subject}: the loss diverged: {losses[epoch]:.3g} times that of constant outputs in epoch {epoch}{earlier}, "
        f"expected at most {LIMIT:g} times{kept}; train again with another --out and a lower {advice}"
    )

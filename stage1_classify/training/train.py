"""The training loop of stage 1: epochs until the end, or until validation no longer improves."""

import logging
from pathlib import Path

from lightning_fabric import Fabric

from cxr.tracking import Tracker
from stage1_classify.data.batches import Split
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.training.checkpoint import Progress
from stage1_classify.training.trainer import Trainer
from stage1_classify.training.validation import one_line

log = logging.getLogger("raybox")


def fit(fabric: Fabric, train: Split, val: Split, settings: Stage1Settings, run_dir: Path) -> Progress:
    """Train for `num_epochs`, or until validation has not improved for `patience_epochs`. Resumes from ``last.ckpt``.

    Writes ``last.ckpt`` after every epoch and ``best.safetensors`` whenever validation improves. With train.ema_decay
    the average of the weights is validated and kept.

    During hierarchy.conditional_epochs a child is trained only on cases whose parent is positive; then the backbone is
    frozen and the head is trained on all cases. Early stopping, the schedule `plateau` and the choice of the best epoch
    use only this second phase.

    Raises:
        UserError: a loss or gradient is not finite, the loss diverges, or several processes do not train as one.
    """
    trainer = Trainer(fabric, train, settings, run_dir)
    tracker = Tracker(run_dir, settings.tracking) if fabric.is_global_zero else None
    while not trainer.is_done:
        figures = trainer.train_epoch() | trainer.validate(val)
        if tracker is not None:  # before the epoch is saved: after a kill it is logged again, not lost
            tracker.log(trainer.progress.epoch + 1, figures)
        trainer.end_epoch(figures)
        if tracker is not None:
            log.info("epoch %d  %s", trainer.progress.epoch, one_line(figures))
    if tracker is not None:
        tracker.finish()
    return trainer.progress

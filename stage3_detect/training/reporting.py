"""Report a running training: progress, and per epoch a log line and a line of metrics.jsonl.

On several GPUs ultralytics trains in separate processes. The first of them writes metrics.jsonl; the process that
waits for them logs its lines.
"""

import logging
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cxr.progress import track
from cxr.tracking import Tracker, TrackingMode, read_log

log = logging.getLogger("raybox")

_POLL_S = 0.5
_AP50 = "metrics/mAP50(B)"
_LOSS, _VAL_LOSS = "train/", "val/"


class EpochReport:
    """Callbacks for ultralytics' trainer; attach them in the process that trains (the first of several)."""

    def __init__(self, run_dir: Path, tracking: TrackingMode, *, write_log: bool) -> None:
        """write_log: False if another process logs the lines of metrics.jsonl."""
        self._tracker = Tracker(run_dir, tracking)
        self._write_log = write_log
        self._bar: Iterator[int] = iter(())

    def attach(self, trainer: Any) -> None:
        """Add the callbacks to `trainer`."""
        trainer.add_callback("on_train_epoch_start", self._begin)
        trainer.add_callback("on_train_batch_end", lambda _: next(self._bar, None))
        trainer.add_callback("on_train_epoch_end", lambda _: list(self._bar))  # the bar vanishes at its end
        trainer.add_callback("on_fit_epoch_end", self._figures)
        trainer.add_callback("teardown", lambda _: self._tracker.finish())

    def _begin(self, trainer: Any) -> None:
        title = f"epoch {trainer.epoch + 1} of {trainer.epochs}"
        self._bar = track(iter(range(len(trainer.train_loader) + 1)), title, total=len(trainer.train_loader))
        next(self._bar)

    def _figures(self, trainer: Any) -> None:
        figures = epoch_figures(trainer)
        self._tracker.log(trainer.epoch + 1, figures)
        if self._write_log:
            log.info("stage3: %s", epoch_line(trainer.epoch + 1, trainer.epochs, figures))


def epoch_figures(trainer: Any) -> dict[str, float]:
    """Losses of the epoch, metrics of its validation if there was one, and the seconds of both."""
    figures = {name: float(value) for name, value in trainer.label_loss_items(trainer.tloss).items()}
    if trainer.fitness is not None:
        figures |= {name: float(value) for name, value in trainer.metrics.items()}
    figures["seconds"] = round(float(trainer.epoch_time or 0.0), 2)
    return figures


def epoch_line(epoch: int, num_epochs: int, figures: Mapping[str, float]) -> str:
    """For example `epoch 3 of 10  box_loss 1.2  cls_loss 0.8  AP50 0.312  41 s`.

    A network whose outputs in the validation are not finite has an AP of 0; the line says so. It is no reason to stop:
    running statistics that lag behind large steps, early in a training, do that too.
    """
    losses = [f"{name.removeprefix(_LOSS)} {value:.4g}" for name, value in figures.items() if _LOSS in name]
    validated = [f"AP50 {figures[_AP50]:.3f}"] if _AP50 in figures else []
    if validated and any(not math.isfinite(value) for name, value in figures.items() if name.startswith(_VAL_LOSS)):
        validated.append("(its outputs are not finite)")
    return "  ".join([f"epoch {epoch} of {num_epochs}", *losses, *validated, f"{figures.get('seconds', 0):.3g} s"])


@contextmanager
def log_worker_epochs(run_dir: Path, num_epochs: int) -> Iterator[None]:
    """Log the epochs that other processes add to `run_dir`/metrics.jsonl in the meantime."""
    done, seen = threading.Event(), read_log(run_dir)

    def log_new() -> None:
        for entry in read_log(run_dir):
            if entry not in seen:
                seen.append(entry)
                log.info("stage3: %s", epoch_line(int(entry["step"]), num_epochs, entry))

    def watch() -> None:
        while not done.wait(_POLL_S):
            log_new()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        log_new()

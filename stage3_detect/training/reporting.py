"""What is seen of a training while it runs: a bar on a terminal, a log line and a line of metrics.jsonl an epoch.

With several GPUs ultralytics trains in processes of its own. Their first one writes metrics.jsonl; the process that
waits for them logs what it reads there.
"""

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cxr.progress import track
from cxr.tracking import Tracker, TrackingMode

log = logging.getLogger("raybox")

_POLL_S = 0.5
_AP50 = "metrics/mAP50(B)"
_LOSS = "train/"


class EpochReport:
    """Callbacks of one training for ultralytics' trainer, to be attached in the process that trains (the first of
    several)."""

    def __init__(self, run_dir: Path, tracking: TrackingMode, *, write_log: bool) -> None:
        """write_log: False where another process logs what stands in metrics.jsonl."""
        self._tracker = Tracker(run_dir, tracking)
        self._write_log = write_log
        self._bar: Iterator[int] = iter(())

    def attach(self, trainer: Any) -> None:
        """From now on `trainer` reports."""
        trainer.add_callback("on_train_epoch_start", self._begin)
        trainer.add_callback("on_train_batch_end", self._advance)
        trainer.add_callback("on_train_epoch_end", self._end)
        trainer.add_callback("on_fit_epoch_end", self._figures)
        trainer.add_callback("teardown", self._finish)

    def _begin(self, trainer: Any) -> None:
        title = f"epoch {trainer.epoch + 1} of {trainer.epochs}"
        self._bar = track(iter(range(len(trainer.train_loader) + 1)), title, total=len(trainer.train_loader))
        next(self._bar)

    def _advance(self, _: Any) -> None:
        next(self._bar, None)

    def _end(self, _: Any) -> None:
        for _ in self._bar:
            pass  # the bar vanishes when it is through

    def _figures(self, trainer: Any) -> None:
        figures = epoch_figures(trainer)
        self._tracker.log(trainer.epoch + 1, figures)
        if self._write_log:
            log.info("stage3: %s", epoch_line(trainer.epoch + 1, trainer.epochs, figures))

    def _finish(self, _: Any) -> None:
        self._tracker.finish()


def epoch_figures(trainer: Any) -> dict[str, float]:
    """Losses of the epoch, the validation's figures where there was one, seconds of both."""
    figures = {name: float(value) for name, value in trainer.label_loss_items(trainer.tloss).items()}
    if trainer.fitness is not None:
        figures |= {name: float(value) for name, value in trainer.metrics.items()}
    figures["seconds"] = round(float(trainer.epoch_time or 0.0), 2)
    return figures


def epoch_line(epoch: int, num_epochs: int, figures: Mapping[str, float]) -> str:
    """For instance `epoch 3 of 10  box_loss 1.2  cls_loss 0.8  AP50 0.312  41 s`."""
    losses = [f"{name.removeprefix(_LOSS)} {value:.4g}" for name, value in figures.items() if _LOSS in name]
    validated = [f"AP50 {figures[_AP50]:.3f}"] if _AP50 in figures else []
    return "  ".join(
        [f"epoch {epoch} of {num_epochs}", *losses, *validated, f"{figures.get('seconds', 0):.3g} s"]
    )


@contextmanager
def logging_of_others(run_dir: Path, num_epochs: int) -> Iterator[None]:
    """Log the epochs that other processes add to `run_dir`/metrics.jsonl meanwhile."""
    path, done = run_dir / "metrics.jsonl", threading.Event()
    lines = _new_lines(path)
    list(next(lines))  # what stands there already is of an earlier call

    def log_new() -> None:
        for figures in next(lines):
            log.info("stage3: %s", epoch_line(int(figures.pop("step")), num_epochs, figures))

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


def _new_lines(path: Path) -> Iterator[list[dict[str, float]]]:
    """Each time the whole lines that were added since; a line that a kill tore is left out."""
    place = 0
    while True:
        added = path.read_bytes()[place:] if path.is_file() else b""
        whole = added[: added.rfind(b"\n") + 1]
        place += len(whole)
        yield [entry for entry in map(_parsed, whole.splitlines()) if entry is not None]


def _parsed(line: bytes) -> dict[str, float] | None:
    try:
        return dict(json.loads(line))
    except ValueError:
        return None

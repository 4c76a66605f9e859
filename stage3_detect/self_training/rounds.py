"""Rounds of teacher and student: train, relabel the training images, train again, as long as it helps.

Each round is a run folder of its own, `rounds/<number>`, so that a run that was killed goes on in the round, and in the
epoch, where it was. What a round decides on is read back from its files, never kept in memory alone.
"""

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cxr.coco import CocoBoxes
from cxr.config import UserError
from cxr.runs.run_folder import FinishedRun, Run
from stage3_detect.labels.sources import Sources
from stage3_detect.labels.yolo_folder import YoloFolder
from stage3_detect.model.correction import BoxCorrection
from stage3_detect.model.network import TorchNetwork, pick_device
from stage3_detect.model.predict import predict_images
from stage3_detect.self_training.figures import Figures
from stage3_detect.self_training.one_round import Fit, Predictor, Work, one_round
from stage3_detect.self_training.stop import best_round, reason_to_stop
from stage3_detect.settings.detector import DetectSettings
from stage3_detect.training.train import fit

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class RoundsResult:
    """weights: a copy of the best round's, in the run's own folder. folder, detections_tune: of that round; the latter
    None without tune images. history: a row a round, see `self_training.figures`. stopped: why there was no further
    round. correction: what that round's boxes are off by on the tune split."""

    weights: Path
    folder: YoloFolder
    best_round: int
    history: list[dict[str, float | None]]
    stopped: str
    detections_tune: Path | None
    correction: BoxCorrection

    @property
    def metrics(self) -> Figures:
        """Figures as metrics.json names them: rounds/<number>/<figure>, rounds/num and rounds/best."""
        rows = {
            f"rounds/{number}/{name}": value
            for number, row in enumerate(self.history)
            for name, value in row.items()
            if name != "round"
        }
        return {"rounds/num": float(len(self.history)), "rounds/best": float(self.best_round), **rows}


def run_rounds(
    run: Run,
    sources: Sources,
    settings: DetectSettings,
    *,
    fit: Fit = fit,
    predictor: Predictor | None = None,
) -> RoundsResult:
    """Train on `sources.labels`, then up to `max_rounds` times on labels that teacher and student make together.

    The student of a round is the detector of the round before, with its averaged weights; what it boxes in the training
    images of findings that their labels affirm is fused with the teacher's boxes (`relabel`). Which of its scores count
    is learnt on the tune split, and AP40 there ends the rounds and picks the best (`stop`); both therefore see the same
    few images, so that the tune AP40 of the best round flatters it a little. The test split is never looked at.

    Returns:
        the best round, its weights copied to `run.dir`/weights/best.pt.

    Raises:
        UserError: rounds are asked for, and there is nothing to relabel or no tune box to decide with.
    """
    _require_rounds_make_sense(sources, settings)
    work = Work(run, sources, settings, fit, predictor or predict_with)
    rounds: list[FinishedRun] = []
    stopped = None
    while stopped is None:
        rounds.append(one_round(work, rounds))
        aps = [done.metrics["tune_ap40"] for done in rounds]
        limits = settings.self_training
        stopped = reason_to_stop(aps, max_rounds=limits.max_rounds, min_gain=limits.min_gain)
    number = best_round(aps)
    if settings.self_training.max_rounds:
        log.info("stage3: %d rounds, %s; the best is round %d", len(rounds), stopped, number)
    best = rounds[number]
    weights = _publish(best.output("weights"), run.dir / "weights" / "best.pt")
    history = [{"round": float(r), **done.metrics} for r, done in enumerate(rounds)]
    correction = BoxCorrection.from_dict(best.manifest["box_correction"])
    return RoundsResult(weights, _folder_of(best), number, history, stopped, _tune_file(best), correction)


def predict_with(weights: Path, images: CocoBoxes, settings: DetectSettings) -> CocoBoxes:
    """Detections of trained weights on PyTorch."""
    network = TorchNetwork(weights, device=pick_device(settings.device), nms_free=settings.predict.nms_free)
    return predict_images(images, network, settings.predict, read_ahead=True)[0]


def _require_rounds_make_sense(sources: Sources, settings: DetectSettings) -> None:
    count, labels = settings.self_training.max_rounds, settings.labels
    if count == 0:
        return
    if labels.source == "true_boxes" or labels.true_boxes.only:
        where = "labels.source: true_boxes" if labels.source == "true_boxes" else "labels.true_boxes.only"
        raise UserError(
            f"self_training.max_rounds: {count} with {where}: rounds relabel pseudo-labels, and none are used; "
            "set self_training.max_rounds to 0"
        )
    if sources.tune.without_ignored().boxes.empty:
        raise UserError(
            f"self_training.max_rounds: {count} needs boxes of the tune split to tell whether a round helps, and none "
            "is left; lower labels.true_boxes.num_boxes, or set self_training.max_rounds to 0"
        )


def _tune_file(done: FinishedRun) -> Path | None:
    return done.output("detections_tune") if "detections_tune" in done.manifest["outputs"] else None


def _folder_of(done: FinishedRun) -> YoloFolder:
    facts = dict(done.manifest["training"])
    excluded = tuple((image_id, reason) for image_id, reason in facts.pop("excluded"))
    return YoloFolder(done.dir / "yolo" / "data.yaml", excluded=excluded, **facts)


def _publish(weights: Path, published: Path) -> Path:
    """Copy a file so that a reader sees the old one or the whole new one."""
    published.parent.mkdir(parents=True, exist_ok=True)
    partial = published.with_suffix(".partial")
    shutil.copyfile(weights, partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(published)
    return published

"""Self-training: train, relabel the training images, train again, as long as it helps.

Each round has its own run folder, ``rounds/<number>``, so a killed run resumes in the same round and epoch. All
decisions are based on the files of the rounds, never on values in memory alone.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from cxr.coco import CocoBoxes
from cxr.config import UserError
from cxr.metrics import Metrics
from cxr.runs.run_folder import FinishedRun, Run
from cxr.runs.whole_files import whole_file
from stage3_detect.labels.sources import Sources
from stage3_detect.labels.yolo_folder import YoloFolder, yolo_folder
from stage3_detect.model.correction import BoxCorrection
from stage3_detect.model.predict import predict_images
from stage3_detect.model.torch_network import TorchNetwork, pick_device
from stage3_detect.self_training.figures import best_round, reason_to_stop
from stage3_detect.self_training.one_round import Fit, Predictor, SelfTraining, one_round
from stage3_detect.settings.detector import Stage3Settings
from stage3_detect.training.train import fit

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class RoundsResult:
    """weights: a copy of the best round's weights in the run folder. folder, detections_tune: of the best round; the
    latter None without tune images. history: one row per round, see `self_training.figures`. stopped: why there was no
    further round. correction: box correction of the best round, fitted on the tune split."""

    weights: Path
    folder: YoloFolder
    best_round: int
    history: list[dict[str, float | None]]
    stopped: str
    detections_tune: Path | None
    correction: BoxCorrection

    @property
    def metrics(self) -> Metrics:
        """Metrics ``rounds/<number>/<figure>``, ``rounds/num`` and ``rounds/best``."""
        found: Metrics = {"rounds/num": float(len(self.history)), "rounds/best": float(self.best_round)}
        for number, row in enumerate(self.history):
            found |= {f"rounds/{number}/{name}": value for name, value in row.items() if name != "round"}
        return found


def run_rounds(
    run: Run,
    sources: Sources,
    settings: Stage3Settings,
    *,
    start: Path | None = None,
    fit: Fit = fit,
    predictor: Predictor | None = None,
) -> RoundsResult:
    """Train on `sources.labels`, then up to `max_rounds` times on labels that combine teacher and student.

    The student of a round is the detector of the previous round, with its averaged weights. Its boxes in training
    images whose labels affirm the finding are fused with the teacher's boxes (`relabel`). The tune split decides which
    scores of the student count, when the rounds end and which round is the best (`reason_to_stop`). The tune AP40 of
    the best round is therefore slightly optimistic. The test split is never used.

    Args:
        start: weights to start from, instead of those in the settings.

    Returns:
        the best round. Its weights are copied to ``<run.dir>/weights/best.pt``.

    Raises:
        UserError: rounds are requested, but there is nothing to relabel or no true box in the tune split.
    """
    _require_rounds_make_sense(sources, settings)
    job = SelfTraining(run, sources, settings, fit, predictor or predict_with, start)
    rounds: list[FinishedRun] = []
    stopped = None
    while stopped is None:
        rounds.append(one_round(job, rounds))
        aps, limits = [done.metrics["tune_ap40"] for done in rounds], settings.self_training
        stopped = reason_to_stop(aps, max_rounds=limits.max_rounds, min_gain=limits.min_gain)
    number = best_round(aps)
    if settings.self_training.max_rounds:
        log.info("stage3: %d rounds, %s; the best is round %d", len(rounds), stopped, number)
    best = rounds[number]
    weights = _publish(best.output("weights"), run.dir / "weights" / "best.pt")
    history = [{"round": float(r), **done.metrics} for r, done in enumerate(rounds)]
    correction = BoxCorrection.from_dict(best.manifest["box_correction"])
    tune = best.output("detections_tune") if "detections_tune" in best.manifest["outputs"] else None
    folder = yolo_folder(best.dir / "yolo", best.manifest["training"])
    return RoundsResult(weights, folder, number, history, stopped, tune, correction)


def predict_with(weights: Path, images: CocoBoxes, settings: Stage3Settings) -> CocoBoxes:
    """Predict with trained weights in PyTorch."""
    network = TorchNetwork(weights, device=pick_device(settings.device), nms_free=settings.predict.nms_free)
    return predict_images(images, network, settings.predict, read_ahead=True)[0]


def _require_rounds_make_sense(sources: Sources, settings: Stage3Settings) -> None:
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
            f"self_training.max_rounds: {count} needs true boxes in the tune split to decide whether a round helps, "
            "and none is left; lower labels.true_boxes.num_boxes, or set self_training.max_rounds to 0"
        )


def _publish(weights: Path, published: Path) -> Path:
    """Copy a file atomically."""
    published.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(published) as partial:
        shutil.copyfile(weights, partial)
    return published

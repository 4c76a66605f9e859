"""One round of self-training in its own run folder: labels, training, evaluation on the tune split."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cxr.coco import CocoBoxes, read_coco, write_coco
from cxr.metrics import Metrics
from cxr.runs.run_folder import FinishedRun, Run, open_run, start_run
from cxr.tracking import Tracker
from eval.detection.average_precision import main_ap_measure
from stage3_detect.labels.rows import is_strong
from stage3_detect.labels.sources import Sources
from stage3_detect.labels.yolo_folder import YoloFolder, count_facts
from stage3_detect.model.correction import NO_CORRECTION, BoxCorrection, fit_correction
from stage3_detect.self_training.figures import best_round, describe, label_figures, no_tune_figures, tune_figures
from stage3_detect.self_training.pictures import relabel_gallery
from stage3_detect.self_training.relabel import affirmed_pairs, chosen_boxes, relabel, student_boxes, student_scale
from stage3_detect.settings.detector import Stage3Settings
from stage3_detect.settings.labels import LabelSettings

log = logging.getLogger("raybox")

STAGE, TUNE_FILE = "stage3_round", "coco/detections_tune.json"

Predictor = Callable[[Path, CocoBoxes, Stage3Settings], CocoBoxes]
"""(weights, images, settings) -> detections."""


class Fit(Protocol):
    """As `stage3_detect.training.train.fit`."""

    def __call__(
        self, run_dir: Path, sources: Sources, labels: CocoBoxes, settings: Stage3Settings, *, start: Path | None = None
    ) -> tuple[Path, YoloFolder]:
        """Train, and write ``<run_dir>/weights/best.pt``."""


@dataclass(frozen=True)
class SelfTraining:
    """What all rounds share. start: weights to start from, instead of those in the settings."""

    run: Run
    sources: Sources
    settings: Stage3Settings
    fit: Fit
    predictor: Predictor
    start: Path | None = None


def one_round(job: SelfTraining, before: list[FinishedRun]) -> FinishedRun:
    """Make the next round, resume it, or open it where it is finished. before: the rounds so far."""
    out = job.run.dir / "rounds" / str(len(before))
    settings = _settings_of(job.settings, len(before))
    inputs = dict(job.run.inputs) | ({"student": before[-1].output("weights")} if before else {})
    inputs |= {} if job.start is None else {"start": job.start}
    with _round_folder(out, settings, inputs) as part:
        if part.state != "finished":
            figures = _make(job, part, settings, before)
            log.info("stage3: round %d: %s", len(before), describe(figures))
    return open_run(out, stage=STAGE)


def _settings_of(settings: Stage3Settings, number: int) -> Stage3Settings:
    """Settings of a round. Later rounds have their own number of epochs, and no `min_score`: it applies to the
    teacher's boxes before fusion."""
    if number == 0:
        return settings
    epochs = settings.self_training.num_epochs or settings.train.num_epochs
    train = settings.train.model_copy(update={"num_epochs": epochs})
    labels = settings.labels.model_copy(update={"min_score": 0.0})
    return settings.model_copy(update={"train": train, "labels": labels})


@contextmanager
def _round_folder(out: Path, settings: Stage3Settings, inputs: dict[str, Path]) -> Iterator[Run]:
    """Open a run folder inside a run. At the end its lock is released and its log closed, also after an error.

    The outer run's log file also records the round; `start_run` alone would replace it.
    """
    outer = [handler for handler in log.handlers if isinstance(handler, logging.FileHandler)]
    part = start_run(out, stage=STAGE, settings=settings, inputs=inputs)
    own = [handler for handler in log.handlers if isinstance(handler, logging.FileHandler)]
    for handler in outer:
        log.addHandler(handler)  # opens its file again, in append mode
    try:
        yield part
    finally:
        part.release()
        for handler in own:
            log.removeHandler(handler)
            handler.close()


def _make(job: SelfTraining, part: Run, settings: Stage3Settings, before: list[FinishedRun]) -> Metrics:
    """Make labels, train, and predict the tune split."""
    outputs: dict[str, Path] = {}
    facts: dict[str, Any] = {"round": len(before), "findings": list(job.sources.labels.findings)}
    labels = job.sources.labels
    if before:
        with part.phase("relabelling"):
            labels, files, facts["student_scale"] = _relabelled(job, part, before[-1])
            outputs |= files
    with part.phase("training"):
        start = before[-1].output("weights") if before and settings.self_training.start_from == "student" else job.start
        weights, folder = job.fit(part.dir, job.sources, labels, settings, start=start)
        outputs["weights"] = weights
    with part.phase("tune split"):
        figures, correction = _tune_figures(job, part, weights, before)
        facts["box_correction"] = correction.as_dict()
        if (path := part.dir / TUNE_FILE).is_file():
            outputs["detections_tune"] = path
    figures |= label_figures(labels, _labels_of(job, before[-1]) if before else None)
    Tracker(job.run.dir).log(len(before), figures)  # before the end, because a finished round is not made again
    part.finish(figures, outputs, training=count_facts(folder), **facts)
    return figures


def _relabelled(
    job: SelfTraining, part: Run, student: FinishedRun
) -> tuple[CocoBoxes, dict[str, Path], dict[str, Any]]:
    """Labels from teacher and student, their files, and the student's scale for the manifest.

    Images that could not be read in the previous round (`data.on_problem: exclude`) keep the teacher's boxes; training
    excludes them again.
    """
    rounds, folder = job.settings.self_training, part.dir / "coco"
    teacher = _teacher(job.sources.labels, job.settings.labels)
    found, labels = folder / "student_boxes.json", folder / "labels.json"
    unreadable = {image_id for image_id, _ in student.manifest["training"]["excluded"]}
    if not found.is_file():
        pairs = {pair for pair in affirmed_pairs(teacher) if pair[0] not in unreadable}
        images = teacher.select(image_id for image_id, _ in pairs)
        detections = job.predictor(student.output("weights"), images, job.settings)
        write_coco(found, student_boxes(detections, pairs))
    correction = BoxCorrection.from_dict(student.manifest["box_correction"])
    tune = correction.of_table(read_coco(student.output("detections_tune")))
    scale = student_scale(tune, job.sources.tune, default_confidence=rounds.min_confidence)
    chosen = chosen_boxes(correction.of_table(read_coco(found)), scale)
    write_coco(labels, relabel(teacher, chosen, rounds))
    files = {"labels": labels, "student_boxes": found}
    fused = read_coco(labels)
    seen = fused.select(set(fused.images["image_id"]) - unreadable)
    if (picture := relabel_gallery(part.dir, teacher, chosen, seen)) is not None:
        files["relabelled"] = picture
    return fused, files, scale.as_dict()


def _teacher(labels: CocoBoxes, settings: LabelSettings) -> CocoBoxes:
    """Stage 2's labels, with boxes below `min_score` as ignore regions."""
    weak = (~is_strong(labels, settings)).to_numpy(dtype=bool) & ~labels.is_ignored
    reasons = labels.boxes.get("ignored_by", "")
    boxes = labels.boxes.assign(iscrowd=(weak | labels.is_ignored).astype(np.int64), ignored_by=reasons)
    boxes.loc[weak, "ignored_by"] = "score below labels.min_score"
    return labels.with_boxes(boxes)


def _tune_figures(
    job: SelfTraining, part: Run, weights: Path, before: list[FinishedRun]
) -> tuple[Metrics, BoxCorrection]:
    """Evaluate the round on the tune split; returns its figures with corrected boxes, and the correction."""
    tune = job.sources.tune
    if not len(tune.images):
        return no_tune_figures(), NO_CORRECTION
    write_coco(part.dir / TUNE_FILE, job.predictor(weights, tune, job.settings))
    found = read_coco(part.dir / TUNE_FILE)
    correction = fit_correction(found, tune) if job.settings.predict.correct_boxes else NO_CORRECTION
    best = before[best_round([done.metrics["tune_ap40"] for done in before])] if before else None
    options = {"num_resamples": job.settings.num_resamples, "seed": job.settings.seed}
    result, best_result = main_ap_measure(tune, correction.of_table(found)), None
    if best is not None:
        best_correction = BoxCorrection.from_dict(best.manifest["box_correction"])
        best_result = main_ap_measure(tune, best_correction.of_table(read_coco(best.output("detections_tune"))))
    return tune_figures(tune, result, best_result, **options), correction


def _labels_of(job: SelfTraining, done: FinishedRun) -> CocoBoxes:
    """The labels of a round. The first round uses the teacher's and keeps no copy of them."""
    if "labels" in done.manifest["outputs"]:
        return read_coco(done.output("labels"))
    return _teacher(job.sources.labels, job.settings.labels)

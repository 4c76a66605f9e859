"""The steps of stage 3 in order: training, detection, export, evaluation, report.

Each step writes complete files or none, so the same command resumes an interrupted run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cxr.coco import CocoBoxes, read_coco, write_coco
from cxr.runs.run_folder import FinishedRun, Run, log, open_run
from stage3_detect.evaluation.evaluate import check_others, evaluate
from stage3_detect.evaluation.report import ReportParts, write_detector_report
from stage3_detect.evaluation.results import Evaluation
from stage3_detect.export.card_facts import CardFacts
from stage3_detect.export.formats import Exports, export_formats
from stage3_detect.export.model_card import write_model_card
from stage3_detect.export.quality import ExportReference
from stage3_detect.labels.sources import Sources, open_sources, require_pictures
from stage3_detect.labels.yolo_folder import count_facts
from stage3_detect.model.network import TorchNetwork, pick_device
from stage3_detect.model.predict import Milliseconds, predict_images
from stage3_detect.self_training.report import rounds_blocks
from stage3_detect.self_training.rounds import RoundsResult, run_rounds
from stage3_detect.settings.detector import DetectSettings
from stage3_detect.training.train import precision_of

Metrics = dict[str, float | None]


def run(run: Run, settings: DetectSettings, stage2: FinishedRun) -> None:
    """Train a detector on the pseudo-labels of `stage2`, export it, score it and write everything into `run.dir`."""
    sources = open_sources(stage2, settings.labels, seed=settings.seed)
    require_pictures(sources)
    compared = open_compared(settings.compare_with, sources.test)
    with run.phase("training"):
        trained = run_rounds(run, sources, settings)
    with run.phase("detection"):
        detections, milliseconds = _detect(trained, sources.test, settings)
        tune = _on_tune(trained)
    with run.phase("export"):
        exports = _export(run, trained, sources, settings, detections)
    with run.phase("evaluation"):
        evaluation = evaluate(detections, tune, stage2=stage2, sources=sources, settings=settings, others=compared)
    with run.phase("report"):
        metrics = {**evaluation.metrics, **_timing(milliseconds, stage2), **exports.metrics, **trained.metrics}
        made = (trained, evaluation, exports)
        files = _write_pages(run, stage2, sources, settings, made, metrics)
    log.info("stage3: %s", evaluation.verdict)
    outputs = {
        "detections_detector": _write(run.dir, "detections_detector", detections),
        **({} if tune is None else {"detections_tune": _write(run.dir, "detections_tune", tune)}),
        "weights": trained.weights,
        **files,
        **exports.files,
    }
    run.finish(metrics, outputs, **_facts(settings, sources, trained, evaluation, exports))


def open_compared(runs: Mapping[str, Path], test: CocoBoxes) -> dict[str, CocoBoxes]:
    """Detections of other finished stage 3 runs by name. UserError as `check_others`."""
    found = {
        name: read_coco(open_run(path, stage="stage3").output("detections_detector")) for name, path in runs.items()
    }
    check_others(test, found)
    return found


def _detect(trained: RoundsResult, images: CocoBoxes, settings: DetectSettings) -> tuple[CocoBoxes, Milliseconds]:
    device, nms_free = pick_device(settings.device), settings.predict.nms_free
    network = TorchNetwork(trained.weights, device=device, nms_free=nms_free)
    return predict_images(images, network, settings.predict, correction=trained.correction)


def _on_tune(trained: RoundsResult) -> CocoBoxes | None:
    """The best round's detections on the tune split; None if no image of it is left."""
    if trained.detections_tune is None:
        return None
    return trained.correction.of_table(read_coco(trained.detections_tune))


def _export(
    run: Run, trained: RoundsResult, sources: Sources, settings: DetectSettings, detections: CocoBoxes
) -> Exports:
    return export_formats(
        run.dir / "export",
        trained.weights,
        settings,
        reference=ExportReference(sources.test, detections, settings, trained.correction),
        calibration=sources.labels,
    )


def _timing(milliseconds: Milliseconds, stage2: FinishedRun) -> Metrics:
    """Milliseconds per image from decoding to boxes: median and 99th percentile, and the teacher's median."""
    teacher = stage2.metrics.get(f"ms_per_image/{stage2.manifest['best_method']}")
    figures: Metrics = {"ms_per_image/teacher": teacher}
    if len(milliseconds):
        figures["ms_per_image/detector"] = float(np.median(milliseconds))
        figures["ms_per_image/detector/p99"] = float(np.percentile(milliseconds, 99))
    return figures


def _write(run_dir: Path, name: str, coco: CocoBoxes) -> Path:
    path = run_dir / "coco" / f"{name}.json"
    write_coco(path, coco)
    return path


def _write_pages(
    run: Run,
    stage2: FinishedRun,
    sources: Sources,
    settings: DetectSettings,
    made: tuple[RoundsResult, Evaluation, Exports],
    metrics: Metrics,
) -> dict[str, Path]:
    """The report on the run, and the model card for users of the detector."""
    trained, evaluation, exports = made
    blocks = rounds_blocks(run.dir, trained, sources.tune)
    facts = ReportParts(trained.folder, metrics, settings.num_gallery_images, blocks)
    card = CardFacts(
        settings,
        sources,
        stage2,
        trained.folder,
        metrics,
        evaluation.verdict,
        trained.weights,
        operating_points=evaluation.operating_points,
        files=exports.files,
        notes=exports.notes,
        warnings=exports.warnings,
        correction=trained.correction,
    )
    return {"report": write_detector_report(run.dir, evaluation, facts), "model_card": write_model_card(run.dir, card)}


def _facts(
    settings: DetectSettings, sources: Sources, trained: RoundsResult, evaluation: Evaluation, exports: Exports
) -> dict[str, Any]:
    """Entries of the manifest other than metrics. predict.py uses operating points, curves, correction and regions."""
    return {
        "findings": list(sources.test.findings),
        "teacher_method": evaluation.teacher,
        "verdict": evaluation.verdict,
        "operating_points": evaluation.operating_points,
        "score_curves": evaluation.score_curves,
        "box_correction": trained.correction.as_dict(),
        "regions": sorted(set(sources.test.images["region"])),
        "best_round": trained.best_round,
        "synthetic": bool(sources.test.info.get("synthetic")),
        "precision": precision_of(settings, pick_device(settings.device)),
        "training": count_facts(trained.folder),
        "not_exported": exports.notes,
        "export_warnings": exports.warnings,
    }

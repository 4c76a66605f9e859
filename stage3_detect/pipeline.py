"""The steps of stage 3 in order: training, detection, export, evaluation, report.

Each step writes complete files or none, so the same command resumes an interrupted run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.coco import CocoBoxes, read_coco, write_coco
from cxr.config import UserError
from cxr.metrics import Metrics
from cxr.runs.label_files import pass_on_label_file
from cxr.runs.run_folder import FinishedRun, Run, log, open_run
from stage3_detect.distillation.report import distillation_blocks
from stage3_detect.distillation.start import DistilledStart, distilled_start
from stage3_detect.evaluation.evaluate import check_others, evaluate
from stage3_detect.evaluation.report import ReportParts, write_detector_report
from stage3_detect.evaluation.results import Evaluation
from stage3_detect.export.bundle import BundleSource, write_bundle
from stage3_detect.export.card_facts import CardFacts
from stage3_detect.export.formats import Exports, export_formats
from stage3_detect.export.gate_file import FILE_NAME as GATE
from stage3_detect.export.gate_file import training_paths, write_gate, write_records
from stage3_detect.export.model_card import write_model_card
from stage3_detect.export.quality import ExportReference, speed_figures
from stage3_detect.image_quality.gate import open_gate
from stage3_detect.labels.sources import Sources, open_sources, require_pictures
from stage3_detect.labels.yolo_folder import count_facts
from stage3_detect.model.predict import Milliseconds, predict_images
from stage3_detect.model.torch_network import TorchNetwork, pick_device
from stage3_detect.run_chain import chain_of
from stage3_detect.self_training.report import rounds_blocks
from stage3_detect.self_training.rounds import RoundsResult, run_rounds
from stage3_detect.settings.detector import Stage3Settings
from stage3_detect.training.classifier_start import classifier_start
from stage3_detect.training.train import precision_of


@dataclass(frozen=True)
class Detected:
    """Boxes of the trained detector, with corrected sizes. tune: None without tune images.

    milliseconds: (N,) per test image, from decoding to boxes.
    """

    test: CocoBoxes
    tune: CocoBoxes | None
    milliseconds: Milliseconds


@dataclass(frozen=True)
class Results:
    """What the steps of a run produced. distilled: None if training did not start from a distillation."""

    trained: RoundsResult
    detected: Detected
    exports: Exports
    evaluation: Evaluation
    distilled: DistilledStart | None


def run(run: Run, settings: Stage3Settings, stage2: FinishedRun) -> None:
    """Train a detector on the pseudo-labels of `stage2`, export it, score it and write everything into `run.dir`."""
    sources = open_sources(stage2, settings.labels, seed=settings.seed)
    require_pictures(sources)
    compared = open_compared(settings.compare_with, sources.test)
    starts, distilled = _starts(run, sources, settings, stage2)
    with run.phase("training"):
        trained = run_rounds(run, sources, settings, start=next(iter(starts.values()), None))
    with run.phase("detection"):
        detected = _detect(trained, sources, settings)
    with run.phase("export"):
        reference = ExportReference(sources.test, detected.test, settings, trained.correction)
        folder, weights = run.dir / "export", trained.weights
        exports = export_formats(folder, weights, settings, reference=reference, calibration=sources.labels)
    with run.phase("quality gate"):
        gate = _write_gate(run, sources, settings, detected.tune)
    with run.phase("evaluation"):
        evaluation = evaluate(
            detected.test, detected.tune, stage2=stage2, sources=sources, settings=settings, others=compared
        )
    results = Results(trained, detected, exports, evaluation, distilled)
    with run.phase("report"):
        metrics = _metrics(results, stage2)
        pages = _write_pages(run, results, settings=settings, sources=sources, stage2=stage2, metrics=metrics)
    log.info("stage3: %s", evaluation.verdict)
    outputs = {"weights": trained.weights, **starts, **pages, **exports.files, **gate}
    outputs |= pass_on_label_file(stage2, run.dir) | _write_detections(run, detected)
    facts = _prediction_facts(sources, results)
    with run.phase("bundle"):
        _write_bundle(run, facts, metrics, outputs, stage2)
    run.finish(
        metrics,
        outputs,
        **facts,
        teacher_method=evaluation.teacher,
        verdict=evaluation.verdict,
        best_round=trained.best_round,
        precision=precision_of(settings, pick_device(settings.device)),
        training=count_facts(trained.folder),
        not_exported=exports.notes,
    )


def _detect(trained: RoundsResult, sources: Sources, settings: Stage3Settings) -> Detected:
    """Boxes of the test split, and those of the tune split that the best round of training found."""
    network = TorchNetwork(trained.weights, device=pick_device(settings.device), nms_free=settings.predict.nms_free)
    test, milliseconds = predict_images(sources.test, network, settings.predict, correction=trained.correction)
    stored = trained.detections_tune
    tune = None if stored is None else trained.correction.of_table(read_coco(stored))
    return Detected(test, tune, milliseconds)


def _metrics(results: Results, stage2: FinishedRun) -> Metrics:
    """Everything in metrics.json."""
    milliseconds = results.detected.milliseconds
    metrics: Metrics = dict(results.evaluation.metrics)
    metrics |= speed_figures("ms_per_image/detector", milliseconds) if len(milliseconds) else {}
    metrics["ms_per_image/teacher"] = stage2.metrics.get(f"ms_per_image/{stage2.manifest['best_method']}")
    metrics |= {**results.exports.metrics, **results.trained.metrics}
    return metrics | ({} if results.distilled is None else results.distilled.metrics)


def _write_detections(run: Run, detected: Detected) -> dict[str, Path]:
    """COCO files of the boxes; returns output name -> path."""
    boxes = {"detections_detector": detected.test, "detections_tune": detected.tune}
    outputs = {}
    for name, coco in boxes.items():
        if coco is not None:
            outputs[name] = run.dir / "coco" / f"{name}.json"
            write_coco(outputs[name], coco)
    return outputs


def _prediction_facts(sources: Sources, results: Results) -> dict[str, Any]:
    """Entries of the manifest that prediction needs, from the run folder and from the bundle."""
    test, evaluation = sources.test, results.evaluation
    return {
        "findings": list(test.findings),
        "operating_points": evaluation.operating_points,
        "score_curves": evaluation.score_curves,
        "box_correction": results.trained.correction.as_dict(),
        "regions": sorted(set(test.images["region"])),
        "synthetic": bool(test.info.get("synthetic")),
        "export_warnings": results.exports.warnings,
    }


def _starts(
    run: Run, sources: Sources, settings: Stage3Settings, stage2: FinishedRun
) -> tuple[dict[str, Path], DistilledStart | None]:
    """The weights that training starts from instead of those of `settings.model`, under their output name, if any, and
    the distillation behind them. UserError if the classifier is not at hand or does not fit."""
    if settings.distillation.num_epochs:
        needed_by = f"distillation.num_epochs: {settings.distillation.num_epochs}"
        stage1 = _stage1_of(stage2, needed_by=needed_by, instead="set num_epochs to 0")
        with run.phase("distillation"):
            distilled = distilled_start(run.dir, sources.training_images, settings, stage1=stage1)
        return {"weights_distilled": distilled.weights}, distilled
    if settings.backbone.source == "classifier":
        stage1 = _stage1_of(stage2, needed_by="backbone.source: classifier", instead="set it to yolo")
        start = classifier_start(run.dir, sources.test.findings, settings, stage1=stage1)
        return {"weights_start": start}, None
    return {}, None


def _stage1_of(stage2: FinishedRun, *, needed_by: str, instead: str) -> Path:
    """The classifier's run. UserError if it is not at hand."""
    stage1 = chain_of(stage2).stage1
    if stage1 is None:
        raise UserError(
            f"{needed_by} needs the classifier behind {stage2.dir}, whose stage 1 run is not where it was or is no "
            f"longer whole; restore it, or {instead}"
        )
    return stage1


def _write_gate(run: Run, sources: Sources, settings: Stage3Settings, detections: CocoBoxes | None) -> dict[str, Path]:
    """The quality gate, and the records of the tune images for drift; each is left out where it has too few images."""
    path = write_gate(run.dir / "export" / GATE, training_paths(sources), settings.quality_gate)
    files = {} if path is None else {"quality_gate": path}
    if detections is not None:
        records = run.dir / "records_tune.jsonl"
        files["image_records"] = write_records(records, open_gate(path), sources.tune, detections)
    return files


def _write_bundle(
    run: Run, facts: Mapping[str, Any], metrics: Metrics, outputs: Mapping[str, Path], stage2: FinishedRun
) -> None:
    """Write what the service runs on. It checks its own hashes, and may be written again later, so it is no output."""
    chain, stage1 = run.dir.resolve().parent.name, chain_of(stage2).stage1
    source = BundleSource(facts, run.settings.model_dump(mode="json"), metrics, outputs, chain, stage1)
    try:
        write_bundle(run.dir / "export" / "bundle", source)
    except UserError as error:
        log.warning("stage3: %s", "; ".join(error.problems))


def open_compared(runs: Mapping[str, Path], test: CocoBoxes) -> dict[str, CocoBoxes]:
    """Detections of other finished stage 3 runs by name. UserError as `check_others`."""
    found = {
        name: read_coco(open_run(path, stage="stage3").output("detections_detector")) for name, path in runs.items()
    }
    check_others(test, found)
    return found


def _write_pages(
    run: Run, results: Results, *, settings: Stage3Settings, sources: Sources, stage2: FinishedRun, metrics: Metrics
) -> dict[str, Path]:
    """The report on the run, and the model card for users of the detector."""
    trained, evaluation, exports = results.trained, results.evaluation, results.exports
    blocks = [*distillation_blocks(results.distilled), *rounds_blocks(run.dir, trained, sources.tune)]
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

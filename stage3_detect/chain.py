"""The steps of stage 3 in order.

Each leaves a whole file behind or nothing, so that the same command goes on after a kill.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from cxr.coco import CocoBoxes, read_coco, write_coco
from cxr.images import read_image
from cxr.runs import FinishedRun, Run, log
from stage3_detect.config import DetectSettings
from stage3_detect.evaluate import (
    Comparison,
    compare_with_teacher,
    comparison_metrics,
    timing_metrics,
    verdict,
)
from stage3_detect.export import OnnxNetwork, compare_networks, export_onnx, require_agreement
from stage3_detect.predict import TorchNetwork, predict_images
from stage3_detect.report import write_stage3_report
from stage3_detect.starting_point import input_channels
from stage3_detect.train import pick_device, precision_of, train_detector
from stage3_detect.yolo_dataset import YoloFolder, write_yolo_folder

Metrics = dict[str, float | None]


def run_stage3(run: Run, stage2: FinishedRun, settings: DetectSettings) -> None:
    """Pseudo-labels to a trained, scored and exported detector in `run`'s folder."""
    with run.phase("training files"):
        folder = _write_files(run, stage2, settings)
    with run.phase("training"):
        weights = train_detector(run.dir, folder.data_yaml, settings)
    test = read_coco(stage2.output("gt_test"))
    network = TorchNetwork(weights, device=pick_device(settings.device), nms_free=settings.predict.nms_free)
    with run.phase("detection"):
        detections, milliseconds = predict_images(test, network, settings.predict)
        detections_path = run.dir / "coco" / "detections_detector.json"
        write_coco(detections_path, detections)
    with run.phase("export"):
        onnx_path, export_metrics = _export(weights, test, settings)
    with run.phase("evaluation"):
        comparison = compare_with_teacher(
            detections, stage2, num_resamples=settings.num_bootstrap, seed=settings.seed
        )
        timings = timing_metrics(milliseconds, stage2, comparison.teacher_method)
        metrics = comparison_metrics(comparison) | timings | export_metrics
        report = write_stage3_report(
            run.dir, comparison, metrics, folder, num_gallery_images=settings.num_gallery_images
        )
    log.info("stage3: %s", verdict(comparison))
    outputs = {
        "detections_detector": detections_path,
        "weights": weights,
        "onnx": onnx_path,
        "report": report,
    }
    run.finish(metrics, outputs, **_facts(settings, network, folder, comparison))


def _write_files(run: Run, stage2: FinishedRun, settings: DetectSettings) -> YoloFolder:
    use_readers = settings.data.validate_on == "tune_boxes"
    folder = write_yolo_folder(
        run.dir / "yolo",
        read_coco(stage2.output("pseudo_labels")),
        settings.data,
        tune=read_coco(stage2.output("gt_tune")) if use_readers else None,
        channels=input_channels(settings),
        seed=settings.seed,
    )
    log.info("stage3: %d images with boxes, %d normals", folder.num_positives, folder.num_normals)
    if folder.num_doubtful or folder.num_regions:
        log.info(
            "stage3: %d images with ignore regions and no box left out; %d ignore regions of the others not used",
            folder.num_doubtful,
            folder.num_regions,
        )
    return folder


def _export(weights: Path, test: CocoBoxes, settings: DetectSettings) -> tuple[Path, Metrics]:
    """Export, compare with PyTorch on a CPU over real test images, and time the exported form."""
    onnx_path = weights.with_suffix(".onnx")
    nms_free = settings.predict.nms_free
    export_onnx(weights, onnx_path, nms_free=nms_free)
    reference = TorchNetwork(weights, nms_free=nms_free)
    exported = OnnxNetwork(onnx_path, reference)
    few = replace(test, images=test.images.head(settings.num_export_checks))
    root = Path(test.info["data_root"])
    pictures = [read_image(root / row["path"], region=row["region"]) for row in few.images.to_dict("records")]
    agreement = compare_networks(pictures, reference, exported, min_score=settings.predict.min_score)
    require_agreement(agreement)
    _, milliseconds = predict_images(few, exported, settings.predict)
    figures: Metrics = {"onnx/box_difference_px": agreement.box_px, "onnx/score_difference": agreement.score}
    if len(milliseconds):
        figures["ms_per_image/detector_onnx"] = float(sorted(milliseconds)[len(milliseconds) // 2])
    return onnx_path, figures


def _facts(
    settings: DetectSettings, network: TorchNetwork, folder: YoloFolder, comparison: Comparison
) -> dict[str, Any]:
    return {
        "findings": list(network.findings),
        "teacher_method": comparison.teacher_method,
        "verdict": verdict(comparison),
        "channels": network.channels,
        "synthetic": bool(comparison.truth.info.get("synthetic")),
        "precision": precision_of(settings, pick_device(settings.device)),
        "num_positives": folder.num_positives,
        "num_normals": folder.num_normals,
        "num_held_out": folder.num_held_out,
        "num_doubtful": folder.num_doubtful,
        "excluded": [list(entry) for entry in folder.excluded],
    }

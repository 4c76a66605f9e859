"""A chain of finished runs by hand, with untrained networks, and its bundle. Nothing is trained."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cxr.config import parse_settings
from cxr.runs.run_folder import open_run, start_run
from eval.classification.calibration import Calibration
from eval.stats.calibration import Curve
from stage1_classify.model.classifier import Classifier
from stage1_classify.model.probabilities import save_calibration
from stage1_classify.settings.classifier import Stage1Settings
from stage2_pseudolabel.settings.pseudolabel import Stage2Settings
from stage3_detect.export.bundle import BundleSource, write_bundle
from stage3_detect.export.exporter import export_onnx
from stage3_detect.export.openvino_file import convert_openvino
from tests.stage3_detect.prediction.run_builders import make_stage3_run
from tests.stage3_detect.stage3_builders import FINDINGS

CLASSIFIED = ("Lung Opacity", "Lung Lesion", "Pleural Effusion")
"""Findings of the classifier: one more than the detector's."""

CURVES = (Curve(scale=2.0), Curve(offset=0.5), Curve(reason="too few"))


def classifier_settings(**changes: Any) -> Stage1Settings:
    """Letterboxed pictures of 32 x 48; a lesion implies an opacity."""
    kinds = ("affine", "contrast", "flip", "grid", "elastic", "erase")
    values: dict[str, Any] = {
        "augment": {f"{kind}_probability": 0 for kind in kinds},
        "optimizer": {"learning_rate": 0.003},
        "data": {"dataset": "csv_table", "root": "nowhere", "table": "labels.csv", "columns": {"image": "path"}},
        "split": {"kind": "patients", "fractions": {"train": 0.6, "val": 0.2, "test": 0.2}},
        "findings": list(CLASSIFIED),
        "backbone": {"name": "test_convnext", "feature_stage": 1},
        "input": {"size_hw": [32, 48], "keep_aspect": True, "cache_dir": None},
        "hierarchy": {"enabled": True},
        "train": {"num_epochs": 1, "batch_size": 4},
    }
    values["data"]["findings"] = {name: name for name in CLASSIFIED}
    return parse_settings(Stage1Settings, values | changes, source="test")


def make_classifier_run(out: Path, **changes: Any) -> Path:
    """A finished stage 1 run with random weights and the calibration `CURVES`."""
    settings = classifier_settings(**changes)
    run = start_run(out, stage="stage1", settings=settings, inputs={})
    torch.manual_seed(1)
    model = Classifier(settings)
    torch.nn.init.normal_(model.head.classifier.weight, std=1.0)
    files = {"weights": out / "best.safetensors", "calibration": out / "calibration.json"}
    save_file(model.state_dict(), files["weights"])
    save_calibration(files["calibration"], Calibration("platt", CURVES))
    run.finish({}, files)
    return out


def make_stage2_run(
    out: Path, stage1: Path, *, methods: tuple[str, ...], metrics: dict[str, float | None] | None = None
) -> None:
    """A finished stage 2 run that has chosen these methods of the detector's findings."""
    data = {"dataset": "phantom", "root": "nowhere", "part": "vindr"}
    split = {"kind": "official", "names": {"tune": "train", "test": "test"}}
    values = {"data": data, "split": split, "methods": ["layercam", "hirescam"]}
    settings = parse_settings(Stage2Settings, values, source="test")
    run = start_run(out, stage="stage2", settings=settings, inputs={"stage1": stage1})
    by_finding = dict(zip(FINDINGS, methods, strict=True))
    run.finish(metrics or {}, {}, best_method=methods[0], methods_by_finding=by_finding)


def make_chain(root: Path, *, stage2_metrics: dict[str, float | None] | None = None, **facts: Any) -> Path:
    """Runs of all stages in `root`, the last with the formats onnx and openvino_fp32; returns the stage 3 run."""
    stage1 = make_classifier_run(root / "stage1")
    make_stage2_run(root / "stage2", stage1, methods=("layercam", "layercam"), metrics=stage2_metrics)
    speeds = {"ms_per_image/detector_onnx": 2.0, "ms_per_image/detector_openvino_fp32": 1.0}
    inputs = {"stage2": root / "stage2"}
    return make_stage3_run(root / "stage3", inputs=inputs, export=export_small, metrics=speeds, **facts)


def export_small(out: Path, weights: Path) -> dict[str, Path]:
    """Two exported formats and a model card."""
    files = {"onnx": out / "detector.onnx", "openvino_fp32": out / "detector_fp32.xml"}
    out.mkdir(parents=True, exist_ok=True)
    export_onnx(weights, files["onnx"], nms_free=False)
    convert_openvino(files["onnx"], files["openvino_fp32"], half=False)
    files |= {"openvino_fp32_bin": out / "detector_fp32.bin", "model_card": out.parent / "MODEL_CARD.md"}
    files["model_card"].write_text("# Model card\nUntrained.\n", encoding="utf-8")
    return files


def make_bundle(root: Path, **facts: Any) -> Path:
    """The bundle of `make_chain`."""
    run = make_chain(root, **facts)
    folder = run / "export" / "bundle"
    write_bundle(folder, BundleSource.of_run(open_run(run, stage="stage3")))
    return folder

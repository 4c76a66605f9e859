"""A finished stage 3 run by hand: an untrained network whose scores are not all the same. Nothing is trained."""

import io
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from cxr.runs.run_folder import start_run
from eval.detection.points import BEST_F1, OperatingPoint
from stage3_detect.settings.detector import Stage3Settings
from tests.stage3_detect.stage3_builders import FINDINGS

CURVES = {"pooled": {"scale": 1.0, "offset": 0.0}, "by_finding": {}}
"""The score is the confidence."""

SETTINGS = Stage3Settings.model_validate({"data": {"image_px": 96}, "train": {"num_epochs": 1}})


def write_weights(path: Path) -> Path:
    """An untrained yolo26n for 96 px, one channel and two findings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_weights())
    return path


def write_settled_weights(path: Path) -> Path:
    """As `write_weights`, with batch norms that have seen images, so that scores differ from box to box."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_settled_weights())
    return path


@cache
def _weights() -> bytes:
    return _file_of(_untrained())


@cache
def _settled_weights() -> bytes:
    model = _untrained().train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of the last batch
    for _ in range(3):
        model(torch.rand(8, 1, 12, 12).repeat_interleave(8, 2).repeat_interleave(8, 3))
    for heads in (model.model[-1].cv3, model.model[-1].one2one_cv3):
        for head in heads:
            head[-1].weight.data *= 0.05
    return _file_of(model)


def _untrained() -> torch.nn.Module:
    from ultralytics.nn.tasks import DetectionModel  # after stage3_detect, which switches the network off

    torch.manual_seed(0)
    model = DetectionModel("yolo26n.yaml", ch=1, nc=2, verbose=False)
    for heads in (model.model[-1].cv3, model.model[-1].one2one_cv3):
        for head in heads:
            torch.nn.init.normal_(head[-1].weight, std=0.3)
            torch.nn.init.constant_(head[-1].bias, -2.0)
    model.names, model.args = dict(enumerate(FINDINGS)), {"imgsz": 96, "task": "detect"}
    return model


def _file_of(model: torch.nn.Module) -> bytes:
    file = io.BytesIO()
    torch.save({"model": model, "train_args": {"imgsz": 96, "task": "detect"}, "epoch": -1}, file)
    return file.getvalue()


Export = Callable[[Path, Path], dict[str, Path]]
"""From the folder of exported files and the weights to further outputs of a run."""

Metrics = Mapping[str, float | None] | None


def make_stage3_run(
    out: Path,
    *,
    inputs: Mapping[str, Path] | None = None,
    export: Export | None = None,
    metrics: Metrics = None,
    write: Callable[[Path], Path] = write_weights,
    **facts: Any,
) -> Path:
    """A finished run with operating points .3 and .4 and score curves, unless `facts` say otherwise."""
    run = start_run(out, stage="stage3", settings=SETTINGS, inputs=inputs or {})
    point = OperatingPoint(BEST_F1, "by hand", dict(zip(FINDINGS, (0.3, 0.4), strict=True)))
    known = {"operating_points": {BEST_F1: point.as_dict()}, "score_curves": CURVES, "synthetic": True}
    weights = write(out / "weights" / "best.pt")
    files = {"weights": weights, **(export(out / "export", weights) if export else {})}
    run.finish(metrics or {}, files, **(known | {"findings": list(FINDINGS), "export_warnings": {}} | facts))
    return out

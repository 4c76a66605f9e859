"""Lightning Fabric for the settings: devices, processes and precision."""

import logging
import os

import torch
from lightning_fabric import Fabric

from cxr.config import UserError
from cxr.runs.hardware import usual_device
from stage1_classify.settings.classifier import Stage1Settings

# Fabric logs the precision at each start; the manifest holds it.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

_FABRIC_PRECISIONS = {"fp32": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}


def make_fabric(settings: Stage1Settings) -> Fabric:
    """One process, or as many as ``torchrun`` started.

    With precision "auto" it computes in fp32, until `with_computation` has chosen.

    Raises:
        UserError: PyTorch has no such device here, fp16 without a GPU, or several processes for what needs one.
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    num_nodes = int(os.environ.get("WORLD_SIZE", "1")) // local
    if local * num_nodes > 1:
        _check_several_processes(settings)
    strategy = "ddp" if local * num_nodes > 1 else "auto"
    device_type = _device_type(settings.train.device)
    precision = "fp32" if settings.train.precision == "auto" else settings.train.precision
    if precision == "fp16" and device_type == "cpu":
        raise UserError("train.precision: got fp16, which needs a GPU, and there is none; set auto, bf16 or fp32")
    fabric = Fabric(
        accelerator=device_type,
        devices=local,
        num_nodes=num_nodes,
        strategy=strategy,
        precision=_FABRIC_PRECISIONS[precision],  # type: ignore[arg-type]  # a Literal there
    )
    fabric.launch()
    return fabric


def _check_several_processes(settings: Stage1Settings) -> None:
    """UserError for what several processes would not train as one."""
    problems = []
    if settings.views.backbones == "by_view":
        problems.append("views.backbones: by_view needs one process, as a batch may lack one of the views")
    if settings.loss.kind == "auc_margin":
        problems.append("loss.kind: auc_margin needs one process, as it compares all cases of a batch")
    if problems:
        raise UserError([f"{problem}; train without torchrun, or change the setting" for problem in problems])


def _device_type(wanted: str) -> str:
    available = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    if not available[wanted]:
        raise UserError(
            f"train.device: got {wanted}, but PyTorch finds no such device here; set auto or cpu, or install PyTorch "
            f"with {wanted}"
        )
    return usual_device() if wanted == "auto" else wanted

"""Lightning Fabric for the settings: devices, processes and precision."""

import logging
import os

import torch
from lightning_fabric import Fabric

from cxr.config import UserError
from cxr.runs.hardware import computes_in_bf16
from stage1_classify.settings.classifier import Stage1Settings

# Fabric logs the precision at each start; the manifest holds it.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

_FABRIC_PRECISIONS = {"fp32": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}


def make_fabric(settings: Stage1Settings) -> Fabric:
    """One process, or as many as ``torchrun`` started. UserError for fp16 without a GPU."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    num_nodes = int(os.environ.get("WORLD_SIZE", "1")) // local
    strategy = "ddp" if local * num_nodes > 1 else "auto"
    device_type = "cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu"
    precision = settings.train.precision
    if precision == "auto":
        precision = "bf16" if computes_in_bf16(device_type) else "fp32"
    if precision == "fp16" and device_type == "cpu":
        raise UserError("train.precision: got fp16, which needs a GPU, and there is none; set auto, bf16 or fp32")
    fabric = Fabric(
        accelerator="auto",
        devices=local,
        num_nodes=num_nodes,
        strategy=strategy,
        precision=_FABRIC_PRECISIONS[precision],  # type: ignore[arg-type]  # a Literal there
    )
    fabric.launch()
    return fabric


def precision_of(fabric: Fabric) -> str:
    """fp32, fp16 or bf16."""
    names = {theirs: ours for ours, theirs in _FABRIC_PRECISIONS.items()}
    return names[fabric.strategy.precision.precision]

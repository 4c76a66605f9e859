"""Lightning Fabric for the settings: devices, processes and precision."""

import logging
import os

import torch
from lightning_fabric import Fabric

from cxr.config import UserError
from stage1_classify.settings.classifier import Stage1Settings

# Fabric logs the precision at each start; the manifest holds it.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

_FABRIC_PRECISIONS = {"fp32": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}


def make_fabric(settings: Stage1Settings) -> Fabric:
    """One process, or as many as ``torchrun`` started.

    With precision "auto" it computes in fp32, until `with_computation` has chosen.

    Raises:
        UserError: fp16 without a GPU.
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    num_nodes = int(os.environ.get("WORLD_SIZE", "1")) // local
    strategy = "ddp" if local * num_nodes > 1 else "auto"
    device_type = "cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu"
    precision = "fp32" if settings.train.precision == "auto" else settings.train.precision
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

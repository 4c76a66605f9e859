"""Precision and memory format of a training: as the settings say, or the fastest for this network on this device."""

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Literal

import torch
from lightning_fabric import Fabric

from cxr.own_json import Shape, read_object
from cxr.runs.hardware import computes_in_bf16
from cxr.runs.run_folder import Run, atomic_write_text
from stage1_classify.model.classifier import Classifier, blank_classifier
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.settings.training import TrainSettings

_BUDGET_S = 8.0
"""The timed steps take about this long at most; fewer images than in a batch are used if necessary."""

_NUM_ROUNDS = 2
"""Timed steps of each way to compute, after one that is not timed."""

_FEWEST_IMAGES = 2
"""Batch norms need two."""

_WORTHWHILE = 1.05
"""Another way to compute than the first must be faster by this factor, so that noise seldom decides."""

COMPUTATION = "computation.json"
"""Holds the choice in the run folder."""

MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

log = logging.getLogger("raybox")


@dataclass(frozen=True)
class Computation:
    """How the network is computed, in the words of `TrainSettings`."""

    precision: str
    memory_format: str

    def __str__(self) -> str:
        return f"{self.precision} {self.memory_format}"


def with_computation(run: Run, settings: Stage1Settings, fabric: Fabric) -> Stage1Settings:
    """`settings` with precision and memory format in place of "auto".

    The first process decides for all and keeps the choice in the run folder, where a resumed run finds it.
    """
    chosen = None
    if fabric.is_global_zero:
        chosen = _recorded(run) or _chosen(settings, fabric)
        atomic_write_text(run.dir / COMPUTATION, json.dumps(asdict(chosen)) + "\n")
    shared = fabric.broadcast(chosen)
    assert shared is not None, "the first process has chosen"
    return settings.model_copy(update={"train": settings.train.model_copy(update=asdict(shared))})


class _Recorded(Shape):
    precision: Literal["fp32", "fp16", "bf16"]
    memory_format: Literal["channels_last", "contiguous"]


def _recorded(run: Run) -> Computation | None:
    path = run.dir / COMPUTATION
    if run.state != "resumed" or not path.is_file():
        return None
    return Computation(**read_object(path, shape=_Recorded, advice="give another --out"))


def _chosen(settings: Stage1Settings, fabric: Fabric) -> Computation:
    options = ways_to_compute(settings.train, fabric.device.type)
    if len(options) == 1:
        return options[0]
    images_hw, share = settings.input.net_hw, -(-settings.train.batch_size // fabric.world_size)
    model = blank_classifier(settings).to(fabric.device).train()
    images = torch.randn(max(share, _FEWEST_IMAGES), settings.backbone.in_channels, *images_hw, device=fabric.device)
    images = images[: _affordable(model, images, options)]
    seconds = time_steps(model, images, options)
    chosen = fastest(seconds)
    shown = ", ".join(f"{option} {value:.3g} s" for option, value in seconds.items())
    log.info("computing in %s; a step of %d images takes: %s", chosen, len(images), shown)
    return chosen


def ways_to_compute(settings: TrainSettings, device_type: str) -> list[Computation]:
    """What the settings leave open on this device. The first is the one to use unless another is faster."""
    precisions = [settings.precision]
    if settings.precision == "auto":
        precisions = ["fp32", "bf16"] if computes_in_bf16(device_type) else ["fp32"]
    formats = [settings.memory_format] if settings.memory_format != "auto" else list(MEMORY_FORMATS)
    return [Computation(*pair) for pair in product(precisions, formats)]


def fastest(seconds: Mapping[Computation, float]) -> Computation:
    """The way with the fewest seconds; the first one if none is clearly faster than it."""
    first = next(iter(seconds))
    best = min(seconds, key=lambda option: seconds[option])
    return best if seconds[best] * _WORTHWHILE < seconds[first] else first


def time_steps(model: Classifier, images: torch.Tensor, options: list[Computation]) -> dict[Computation, float]:
    """Seconds of forward and backward pass of images (N, C, H, W), the shortest of some; infinite without memory.

    The options take turns, so that another program that comes or goes affects all of them.
    """
    seconds = dict.fromkeys(options, math.inf)
    for number, option in product(range(1 + _NUM_ROUNDS), options):
        taken = _step_seconds(model, images, option)
        if number:
            seconds[option] = min(seconds[option], taken)
    return seconds


def _affordable(model: Classifier, images: torch.Tensor, options: list[Computation]) -> int:
    """How many of the images keep to the budget."""
    few = images[:_FEWEST_IMAGES]
    image_s = min(_step_seconds(model, few, options[0]) for _ in range(2)) / len(few)
    num_steps = (1 + _NUM_ROUNDS) * len(options)
    return min(len(images), max(_FEWEST_IMAGES, int(_BUDGET_S / (num_steps * image_s))))


def _step_seconds(model: Classifier, images: torch.Tensor, option: Computation) -> float:
    """Seconds of one forward and backward pass."""
    memory_format = MEMORY_FORMATS[option.memory_format]
    model.to(memory_format=memory_format)
    images = images.to(memory_format=memory_format)
    _synchronize(images.device)
    begin = time.perf_counter()
    try:
        with torch.autocast(images.device.type, _DTYPES[option.precision], enabled=option.precision != "fp32"):
            logits = model(images)
        logits.square().mean().backward()
        _synchronize(images.device)
    except torch.OutOfMemoryError:
        return math.inf
    finally:
        model.zero_grad()
    return time.perf_counter() - begin


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)

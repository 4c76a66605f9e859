"""Splits and trainers on the tiny task of stage1_builders, without the rest of stage 1."""

from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from cxr.imaging.pictures import Pictures
from cxr.tracking import read_log
from stage1_classify.data.batches import Split
from stage1_classify.data.studies import make_cases
from stage1_classify.data.targets import evaluation_targets, training_targets
from stage1_classify.settings.classifier import Stage1Settings
from stage1_classify.training.fabric import make_fabric
from stage1_classify.training.train import fit
from stage1_classify.training.trainer import Trainer

PLAIN = {"affine_probability": 0, "contrast_probability": 0, "erase_probability": 0}
"""No augmentation."""


def splits(settings: Stage1Settings) -> tuple[Split, Split]:
    """Training and validation split of the settings' data."""
    data = settings.data.read()
    ids = settings.split.make(data)
    made = []
    for name in ("train", "val"):
        part = data.select(ids[name])
        cases = make_cases(part, settings.views.max_views)
        labels = cases.first.labels[settings.findings]
        if name == "train":
            targets = training_targets(labels, settings.labels, seed=settings.seed)
        else:
            targets = evaluation_targets(labels, settings.labels)
        made.append(Split(Pictures(part, settings.input), cases, targets))
    return made[0], made[1]


def trainer(settings: Stage1Settings, out: Path, fabric: Fabric | None = None) -> Trainer:
    """A trainer that has made no step yet."""
    out.mkdir(parents=True, exist_ok=True)
    return Trainer(fabric or make_fabric(settings), splits(settings)[0], settings, out)


def fitted(settings: Stage1Settings, out: Path, fabric: Fabric | None = None) -> Path:
    """Train to the end; returns `out`."""
    out.mkdir(parents=True, exist_ok=True)
    fit(fabric or make_fabric(settings), *splits(settings), settings, out)
    return out


def float16_fabric(scale: float = 2.0**16) -> Fabric:
    """16-mixed on the CPU, which Fabric would turn into bf16-mixed unless it is given the plugin itself."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    fabric = Fabric(accelerator="cpu", plugins=MixedPrecision("16-mixed", "cpu", scaler))
    fabric.launch()
    return fabric


def logged(out: Path) -> list[dict[str, Any]]:
    """The figures of each epoch, without what depends on the machine's speed."""
    entries = read_log(out)
    return [{k: v for k, v in entry.items() if k != "train/images_per_second"} for entry in entries]


def assert_same(one: Any, other: Any) -> None:
    """Nested states are equal, tensors bit for bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, torch.Tensor):
        torch.testing.assert_close(other, one, rtol=0, atol=0, equal_nan=True)
    else:
        assert one == other

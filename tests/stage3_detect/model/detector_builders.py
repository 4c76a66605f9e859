"""Untrained detectors, for tests of prediction and export."""

import io
from functools import cache
from pathlib import Path

import torch

from stage3_detect.settings.detector import Stage3Settings
from tests.stage3_detect.stage3_builders import FINDINGS

IMAGE_PX = 96


def untrained_weights(path: Path, *, model: str = "yolo26n.yaml", channels: int = 1) -> Path:
    """A network for 96 px whose scores are not all the same, and whose boxes are of many sizes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_untrained(model, channels))
    return path


@cache
def _untrained(model: str, channels: int) -> bytes:
    """The file of such a network, which takes most of a second to build."""
    from ultralytics.nn.tasks import DetectionModel  # after stage3_detect, which switches the network off

    torch.manual_seed(0)
    network = DetectionModel(model, ch=channels, nc=len(FINDINGS), verbose=False)
    head = network.model[-1]
    for part in (*head.cv3, *getattr(head, "one2one_cv3", [])):
        torch.nn.init.normal_(part[-1].weight, std=0.2)
        torch.nn.init.constant_(part[-1].bias, -2.0)
    for part in (*head.cv2, *getattr(head, "one2one_cv2", [])):
        torch.nn.init.normal_(part[-1].weight, std=0.05)
        torch.nn.init.constant_(part[-1].bias, 1.0)
    _normalise(network, channels)
    network.names, network.args = dict(enumerate(FINDINGS)), {"imgsz": IMAGE_PX, "task": "detect"}
    arguments, file = {"imgsz": IMAGE_PX, "task": "detect"}, io.BytesIO()
    torch.save({"model": network.half(), "train_args": arguments, "epoch": -1}, file)
    return file.getvalue()


def _normalise(network: torch.nn.Module, channels: int) -> None:
    """Means and variances of pictures, without which an untrained network sees nothing of its input.

    Variances a tenth larger: with the very ones a network of random weights blows the least rounding up.
    """
    pictures = torch.nn.functional.interpolate(torch.rand(8, channels, 12, 12), size=(IMAGE_PX, IMAGE_PX))
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None  # plain means over the passes
    network.train()
    with torch.no_grad():
        for _ in range(2):
            network(pictures)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_var *= 1.1
    network.eval()


def settings_of(**export: object) -> Stage3Settings:
    """Settings for 96 px with few resamples; `export` as of ExportSettings."""
    return Stage3Settings.model_validate(
        {"data": {"image_px": IMAGE_PX}, "train": {"num_epochs": 1}, "num_resamples": 20, "export": export}
    )

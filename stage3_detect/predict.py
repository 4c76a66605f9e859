"""Weights and pictures to scored boxes in the picture's own pixels."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from torchvision.ops import batched_nms, box_convert
from ultralytics import YOLO

from cxr.boxes import Boxes, clip_boxes
from cxr.coco import CocoBoxes, boxes_table
from cxr.images import GrayImage, read_image
from stage3_detect.config import PredictSettings
from stage3_detect.preprocess import to_net, to_tensor_input

_CANDIDATES_PER_CLASS = 300
"""Best anchors of a class that enter NMS; beyond them scores are far below anything that counts."""


@dataclass(frozen=True)
class Detections:
    """Boxes of one picture: xyxy (N, 4) in its own pixels, scores (N,) in [0, 1], classes (N,), best first."""

    xyxy: Boxes
    scores: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]


class TorchNetwork:
    """A trained network as a function from (1, C, S, S) to ultralytics' raw output."""

    def __init__(self, weights: Path, *, device: str = "cpu", nms_free: bool = False) -> None:
        """Load `weights` (ours; a checkpoint is code, so load only files that you trust)."""
        model: Any = YOLO(str(weights)).model
        self.findings: tuple[str, ...] = tuple(model.names[index] for index in sorted(model.names))
        self.channels = int(model.yaml.get("channels", 3))
        self.image_px = int(model.args["imgsz"])
        model.end2end = nms_free
        self._device = torch.device(f"cuda:{device.partition(',')[0]}" if device[0].isdigit() else device)
        self._model = model.float().fuse(verbose=False).eval().to(self._device)

    @torch.inference_mode()
    def __call__(self, net_input: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(1, C, S, S) to (4 + K, anchors): centre, size, class scores; or (M, 6) rows when NMS-free."""
        output = self._model(torch.from_numpy(net_input).to(self._device))
        raw = output[0] if isinstance(output, tuple) else output
        return np.asarray(raw[0].float().cpu().numpy(), dtype=np.float32)


def detect(image: GrayImage, network: Any, settings: PredictSettings) -> Detections:
    """Boxes of one picture (H, W). `network` is a TorchNetwork, or an OnnxNetwork, which agrees with it."""
    net_image, resize = to_net(image, network.image_px)
    output = network(to_tensor_input(net_image, network.channels))
    found = read_output(output, settings)
    corners = clip_boxes(resize.boxes_to_image(found.xyxy), resize.image_hw)
    kept = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    return Detections(corners[kept], found.scores[kept], found.classes[kept])


def read_output(output: npt.NDArray[np.float32], settings: PredictSettings) -> Detections:
    """Raw output of one picture to boxes in network pixels, at most so many a class, best first."""
    if settings.nms_free:
        rows = torch.from_numpy(output)
        xyxy, scores, classes = rows[:, :4], rows[:, 4], rows[:, 5].long()
        strong = scores >= settings.min_score
        xyxy, scores, classes = xyxy[strong], scores[strong], classes[strong]
        order = scores.argsort(descending=True, stable=True)
    else:
        xyxy, scores, classes = _candidates(torch.from_numpy(output), settings.min_score)
        order = batched_nms(xyxy, scores, classes, settings.nms_iou)
    order = _cap_per_class(order, classes, settings.max_boxes_per_class)
    found = xyxy[order], scores[order], classes[order]
    return Detections(
        *(part.numpy().astype(kind) for part, kind in zip(found, (float, float, int), strict=True))
    )


def _candidates(output: torch.Tensor, min_score: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each class's best anchors: (M, 4) xyxy, (M,) scores, (M,) classes. One anchor may speak for several classes."""
    class_scores = output[4:]
    scores, anchors = class_scores.topk(min(_CANDIDATES_PER_CLASS, class_scores.shape[1]), dim=1)
    classes = torch.arange(len(class_scores)).unsqueeze(1).expand_as(scores)
    strong = scores >= min_score
    xyxy = box_convert(output[:4].T[anchors[strong]], "cxcywh", "xyxy")
    return xyxy, scores[strong], classes[strong]


def _cap_per_class(order: torch.Tensor, classes: torch.Tensor, limit: int) -> torch.Tensor:
    one_hot = (
        torch.nn.functional.one_hot(classes[order]) if len(order) else torch.zeros(0, 1, dtype=torch.long)
    )
    rank = (one_hot.cumsum(0) * one_hot).sum(1)  # 1 for the best of its class
    return order[rank <= limit]


def predict_images(
    images: CocoBoxes, network: Any, settings: PredictSettings
) -> tuple[CocoBoxes, npt.NDArray[np.float64]]:
    """Detections on the listed images, one at a time, and milliseconds an image from decoding to boxes.

    Raises:
        UserError: an image is missing or unreadable.
    """
    root = Path(images.info["data_root"])
    records = images.images.to_dict("records")
    if records:  # the first passes through a network choose kernels; they are not the service's time
        detect(read_image(root / records[0]["path"], region=records[0]["region"]), network, settings)
    rows: list[tuple[object, ...]] = []
    milliseconds = []
    for record in _with_progress(records):
        begin = time.perf_counter()
        found = detect(read_image(root / record["path"], region=record["region"]), network, settings)
        milliseconds.append((time.perf_counter() - begin) * 1000)
        rows += _table_rows(str(record["image_id"]), found, network.findings)
    info = dict(images.info) | {"kind": "detections"}
    detections = CocoBoxes(images.images, boxes_table(rows), images.findings, info)
    return detections, np.asarray(milliseconds)


def _table_rows(image_id: str, found: Detections, findings: Sequence[str]) -> list[tuple[object, ...]]:
    return [
        (image_id, findings[index], *map(float, box), float(score))
        for box, score, index in zip(found.xyxy, found.scores, found.classes, strict=True)
    ]


def _with_progress(records: list[dict[Any, Any]]) -> Any:
    console = Console()
    return track(records, "detecting", console=console, disable=not console.is_terminal)

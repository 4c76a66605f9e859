"""Ultralytics' detection model with the loss that knows doubts. Finished weights hold ultralytics' own class."""

from typing import Any

from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import E2ELoss

from stage3_detect.training.loss import DoubtfulLoss, make_loss


class DoubtfulModel(DetectionModel):
    """As ultralytics', but for its loss. shared_iou: of `NoiseSettings.shared_boxes_iou`."""

    shared_iou: float | None = None

    def init_criterion(self) -> DoubtfulLoss | E2ELoss:
        """Called by ultralytics before the first batch."""
        return make_loss(self, shared_iou=self.shared_iou)


def as_plain(model: Any) -> Any:
    """Give the model ultralytics' class, so that its file opens where this project is not installed."""
    if isinstance(model, DoubtfulModel):
        model.__class__ = DetectionModel
        model.__dict__.pop("shared_iou", None)
    return model

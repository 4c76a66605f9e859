"""Settings of the detector's backbone: the one of its architecture, or the classifier's network."""

from typing import Annotated, Literal

from pydantic import Field

from cxr.config import Settings


class DetectorBackboneSettings(Settings):
    """The part of the detector that sees the picture first."""

    source: Literal["yolo", "classifier"] = "yolo"
    """yolo: that of `model`. classifier: the network of the stage 1 classifier with its weights, under the neck and
    head of `model`, which must be an architecture such as yolo26n.yaml. Excludes distillation."""
    learning_rate_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Learning rate of the classifier's network as a share of `train.learning_rate`."""
    frozen_stride: Literal[0, 2, 4, 8, 16, 32] = 4
    """Stages of the classifier's network up to this stride keep their weights. 0: all stages learn."""

"""Settings of distillation: the detector learns the classifier's features before it is trained on boxes."""

from typing import Annotated, Literal

from pydantic import Field

from cxr.config import Settings


class DistillationSettings(Settings):
    """Before training, the detector's first layers learn to predict the features of the stage 1 classifier.

    All training images of stage 2 are used, with or without boxes. The training then starts from these weights.
    """

    num_epochs: Annotated[int, Field(ge=0)] = 0
    """Passes over the training images. 0: off."""
    layers: Literal["backbone", "neck"] = "backbone"
    """Which layers learn. backbone: the last layer of the backbone at each of the strides 8, 16 and 32. neck: the three
    layers that the head reads as well."""
    image_px: Annotated[int, Field(ge=64, le=2048, multiple_of=32)] | None = None
    """Longer side of the pictures. null: `data.image_px`."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Images per batch."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.002
    """Highest learning rate of AdamW; it rises in the first twentieth of the steps and falls as a cosine."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay of AdamW."""

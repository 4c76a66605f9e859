"""Settings of stage 3: augmentation and training."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cxr.config import Settings

Share = Annotated[float, Field(ge=0, le=1)]


class AugmentSettings(Settings):
    """Random changes of a training image. A radiograph has no colour and is never upside down."""

    flip_probability: Share = 0.5
    """Probability of a left-right flip. Set 0 where the side matters."""
    rotate_deg: Annotated[float, Field(ge=0, le=45)] = 5.0
    """Largest rotation, in either direction."""
    translate_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Largest shift, as a share of the image."""
    scale_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """The image is scaled by a random factor between 1 - scale_share and 1 + scale_share."""
    mosaic_probability: Share = 0.0
    """Probability of combining four images in one. The default of ultralytics is 1, but a mosaic shows no chest."""
    mosaic_off_last_epochs: Annotated[int, Field(ge=0)] = 2
    """No mosaic in this many epochs at the end."""
    contrast_probability: Share = 0.5
    """Probability of a change of brightness and contrast, and of gamma, each by at most a fifth."""


class TrainSettings(Settings):
    renamed: ClassVar[Mapping[str, str]] = {
        "lr": "learning_rate",
        "lr_final_share": "final_learning_rate_share",
        "averaging_share": "ema_share",
    }

    num_epochs: Annotated[int, Field(ge=1)]
    """Most epochs of a training; see also `patience_epochs`."""
    batch_size: Annotated[int, Field(ge=2)] = 16
    """Images per batch, over all GPUs together."""
    optimizer: Literal["adamw", "adam", "sgd", "musgd"] = "adamw"
    """musgd: ultralytics' mixture of Muon and SGD."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.002
    """Highest learning rate of the schedule."""
    final_learning_rate_share: Share = 0.01
    """Learning rate at the end as a share of `learning_rate`."""
    schedule: Literal["linear", "cosine"] = "linear"
    """How the learning rate falls after the warm-up."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD; the first beta of Adam."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0005
    """Weight decay of all parameters except biases and norms."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.5
    """Epochs in which the learning rate rises from 0."""
    patience_epochs: Annotated[int, Field(ge=1)] = 100
    """Training stops after this many epochs without a better validation result."""
    val_every_epochs: Annotated[int, Field(ge=1)] = 1
    """Validate, and choose the best epoch, every this many epochs and after the last."""
    ema_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The weights that are validated and kept are a moving average over about this share of all optimizer steps.
    0: off. The window of ultralytics does not depend on the length of a training."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 is mixed precision. auto: bf16 where the processor or GPU computes in it, else fp32."""

"""Settings of stage 3 about the training itself."""

from typing import Annotated, Literal

from pydantic import Field

from cxr.config import Settings

Share = Annotated[float, Field(ge=0, le=1)]


class AugmentSettings(Settings):
    """Random changes of a training image. No vertical flip and no colour: a radiograph has neither."""

    flip_probability: Share = 0.5
    """Left-right; set 0 where the side matters (dextrocardia is rare)."""
    rotate_deg: Annotated[float, Field(ge=0, le=45)] = 5.0
    translate_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    scale_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    mosaic_probability: Share = 0.0
    """Four images in one; ultralytics' default is 1, which shows no chest as it is."""
    mosaic_off_last_epochs: Annotated[int, Field(ge=0)] = 2
    contrast_probability: Share = 0.5
    """Random brightness, contrast and gamma, each by up to a fifth."""


class TrainSettings(Settings):
    """How the detector learns."""

    num_epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)] = 16
    optimizer: Literal["AdamW", "Adam", "SGD", "MuSGD"] = "AdamW"
    lr: Annotated[float, Field(gt=0)] = 0.002
    lr_final_share: Share = 0.01
    """Learning rate at the end as a share of `lr`."""
    schedule: Literal["linear", "cosine"] = "linear"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD; the first beta of Adam."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0005
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.5
    patience_epochs: Annotated[int, Field(ge=1)] = 100
    val_every_epochs: Annotated[int, Field(ge=1)] = 1
    """Validation, and with it the choice of the best epoch, happens every so many epochs and after the last."""
    averaging_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The weights that are validated and kept are a running mean over about this share of all steps; 0 turns it off.
    Ultralytics' own window does not depend on the length: none in a short training, 10,000 steps in a long one."""
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    """auto: bf16 where the processor or GPU computes in it, else fp32."""

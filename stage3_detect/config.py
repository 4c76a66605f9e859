"""Settings of stage 3."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from cxr.config import Settings
from cxr.tracking import TrackingMode

Share = Annotated[float, Field(ge=0, le=1)]


class DataSettings(Settings):
    """Which images the detector learns from."""

    image_px: Annotated[int, Field(ge=64, le=2048, multiple_of=32)]
    """Side of the square network input; pictures are letterboxed."""
    normals_per_positive: Annotated[float, Field(ge=0)] = 0.5
    """Images without any box for each image with one (as far as there are enough)."""
    min_pseudo_score: Share = 0.0
    """Pseudo-boxes below this score are dropped; an image that loses all of them is left out, not taken for normal."""
    validate_on: Literal["pseudo_labels", "tune_boxes"] = "pseudo_labels"
    """What chooses the best epoch: a held-out part of the pseudo-labelled images, or the tune split's reader boxes."""
    holdout_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Part of the training images held out (only for validate_on: pseudo_labels)."""
    on_problem: Literal["error", "exclude"] = "error"
    """An image that cannot be read: stop and name all of them, or leave it out, counted and named."""


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


class PredictSettings(Settings):
    """How boxes are read from the network's output."""

    min_score: Share = 0.001
    nms_iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    max_boxes_per_class: Annotated[int, Field(ge=1)] = 100
    nms_free: bool = False
    """Use YOLO26's one-to-one head instead of the one-to-many head with NMS."""


class DetectSettings(Settings):
    """Stage 3: train a detector on stage 2's pseudo-labels, score and export it. The stage 2 run comes by --from."""

    model: str = "yolo26n.yaml"
    """An architecture by ultralytics' yaml name (from scratch, one grey channel), or the path of a weights file (.pt)
    to start from (as many channels as it was trained with, grey replicated)."""
    data: DataSettings
    augment: AugmentSettings = AugmentSettings()
    train: TrainSettings
    predict: PredictSettings = PredictSettings()
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|\d+(,\d+)*)$")] = "auto"
    """auto, cpu, mps, or CUDA numbers such as 0 or 0,1."""
    num_workers: Annotated[int, Field(ge=0)] = 2
    """Threads that prepare files; processes that load batches (ultralytics uses none on a CPU)."""
    seed: Annotated[int, Field(ge=0)] = 0
    num_bootstrap: Annotated[int, Field(ge=10)] = 1000
    num_export_checks: Annotated[int, Field(ge=1)] = 8
    """Test images on which the exported model must agree with the trained one."""
    num_gallery_images: Annotated[int, Field(ge=1)] = 12
    tracking: TrackingMode = "off"

    @field_validator("model")
    @classmethod
    def _yaml_or_weights(cls, value: str) -> str:
        if not value.endswith((".yaml", ".yml", ".pt")):
            raise ValueError("expected an architecture such as yolo26n.yaml, or the path of a .pt file")
        return value

    @property
    def from_weights(self) -> bool:
        """Whether training starts from a file instead of from scratch."""
        return self.model.endswith(".pt")

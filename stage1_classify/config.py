"""Settings of stage 1."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from cxr.config import Settings
from cxr.datasets import AnyData
from cxr.splits import SplitSettings
from cxr.tracking import TrackingMode

UncertainPolicy = Literal["ignore", "zeros", "ones", "smooth_ones", "smooth_zeros"]
Fraction = Field(ge=0, le=1)


class BackboneSettings(Settings):
    name: str
    """Any timm model, for instance densenet121, convnext_large, efficientnet_b3, resnet50, vit_small_patch16_224."""
    in_channels: Literal[1, 3] = 1
    """Grey pictures are repeated to 3 channels where a pretrained network wants them."""
    feature_stage: int | None = None
    """Take the features after this stage (timm's `out_indices`) and drop what follows: a finer map, less computing.
    None: the last stage."""
    output_stride: Literal[8, 16, 32] | None = None
    """Dilate instead of stride, where timm offers it (ResNet, ConvNeXt, EfficientNet families)."""
    pretrained: bool = False
    """Fetch timm's weights from its hub. The only setting that reaches the network."""
    weights: Path | None = None
    """A local weights file in timm's naming (safetensors or pth)."""
    drop_path_rate: float | None = Field(None, ge=0, lt=1)


class HeadSettings(Settings):
    kind: Literal["pcam", "average"] = "pcam"
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of whole feature channels before the 1x1 classifier."""


class InputSettings(Settings):
    size_hw: tuple[PositiveInt, PositiveInt] = (384, 384)
    keep_aspect: bool = False
    """Letterbox instead of squash."""
    clahe_clip: PositiveFloat | None = None
    """Contrast-limited adaptive histogram equalisation (8 x 8 tiles) with this clip limit; None: off."""
    mean: float = 0.5
    std: PositiveFloat = 0.25
    """Applied after stretching each picture to [0, 1]."""
    cache_gib: float = Field(4.0, ge=0)
    """Keep decoded 8-bit pictures in memory up to this size; larger sets are decoded anew each epoch."""


class AugmentSettings(Settings):
    """Each part has its own probability; 0 switches it off."""

    affine: float = Fraction
    rotate_deg: float = Field(10.0, ge=0, le=180)
    translate: float = Field(0.06, ge=0, lt=1)
    scale: float = Field(0.1, ge=0, lt=1)
    brightness_contrast: float = Fraction
    limit: float = Field(0.2, ge=0, le=1)
    horizontal_flip: float = Fraction
    grid_distortion: float = Fraction
    elastic: float = Fraction
    erase: float = Fraction
    """Blank a few small rectangles, so that no single spot decides."""


class LabelSettings(Settings):
    uncertain: UncertainPolicy = "ignore"
    uncertain_by_finding: dict[str, UncertainPolicy] = {}
    not_mentioned: Literal["zeros", "ignore"] = "zeros"
    smooth_ones_range: tuple[float, float] = (0.55, 0.85)
    smooth_zeros_range: tuple[float, float] = (0.0, 0.3)


class TrainSettings(Settings):
    num_epochs: PositiveInt
    batch_size: PositiveInt = 32
    """Over all processes together."""
    learning_rate: PositiveFloat = 1e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.25, gt=0, lt=1)
    """Share of the steps before the peak."""
    clip_norm: PositiveFloat = 1.0
    max_positive_weight: PositiveFloat = 10.0
    """Cap of N-/N+; raw values reach 95 on CheXpert."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    patience: PositiveInt = 20
    """Stop after this many epochs without a better validation."""
    select_by: Literal["auroc", "f1", "loss"] = "auroc"
    min_positives: PositiveInt = 5
    """Findings with fewer validation positives are reported but do not steer the choice of the model."""
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"] = "auto"
    """auto: bf16-mixed where the processor or GPU has bfloat16 arithmetic, else 32-true. Heads are always float32."""
    num_workers: int = Field(0, ge=0)


class Stage1Settings(Settings):
    data: AnyData
    split: SplitSettings
    findings: list[str] = Field(min_length=1)
    """Canonical names (cxr/labels.py), in the order of the outputs."""
    backbone: BackboneSettings
    init_from: Path | None = None
    """A finished stage 1 run with the same backbone: training starts from its backbone's weights (pretraining on one
    set, fine-tuning on another)."""
    head: HeadSettings = HeadSettings()
    input: InputSettings = InputSettings()
    augment: AugmentSettings
    labels: LabelSettings = LabelSettings()
    train: TrainSettings
    seed: int = Field(0, ge=0, lt=2**32)
    tracking: TrackingMode = "off"

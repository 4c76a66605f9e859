"""Settings of stage 1. Those of input and of learning are in `config_input` and `config_train`."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cxr.config import Settings
from cxr.datasets import AnyData
from cxr.imaging.settings import InputSettings
from cxr.splits import SplitSettings
from cxr.tracking import TrackingMode
from stage1_classify.settings.input import AugmentSettings, ViewSettings
from stage1_classify.settings.training import (
    FreezeSettings,
    LossSettings,
    OptimizerSettings,
    SamplingSettings,
    ScheduleSettings,
    TrainSettings,
)

UncertainPolicy = Literal[
    "ignore", "zeros", "ones", "smooth_ones", "smooth_zeros", "three_class", "self_train"
]
Combine = Literal["mean", "minimum", "maximum"]
Flip = Literal["none", "horizontal"]


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
    """A local weights file of this network in timm's naming (safetensors or pth). Its classifier is passed over, its
    first convolution summed up for one input channel, its position tables resampled to the input's size."""
    drop_path_rate: float | None = Field(None, ge=0, lt=1)
    """Stochastic depth in training (Huang et al. 2016), where timm offers it."""


class HeadSettings(Settings):
    kind: Literal["average", "max", "lse", "exp", "linear", "pcam", "attention"] = "pcam"
    """How the logit map of a finding becomes its logit (stage1_classify/model/heads.py)."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of whole feature channels before the 1x1 classifier."""
    lse_gamma: PositiveFloat = 5.0
    """lse: towards 0 the average, towards infinity the maximum."""
    attention_features: PositiveInt = 128
    """attention: width of the gated attention."""


class LabelSettings(Settings):
    uncertain: UncertainPolicy = "ignore"
    """ignore: masked. smooth_*: drawn from the ranges below. three_class: a class of its own beside positive and
    negative. self_train: replaced by the probability that the run `teacher` gives."""
    uncertain_by_finding: dict[str, UncertainPolicy] = {}
    not_mentioned: Literal["zeros", "ignore"] = "zeros"
    smooth_ones_range: tuple[float, float] = (0.55, 0.85)
    smooth_zeros_range: tuple[float, float] = (0.0, 0.3)
    teacher: Path | None = None
    """A finished stage 1 run that relabels uncertain training labels; for the policy self_train."""

    @model_validator(mode="after")
    def _teacher_is_given(self) -> "LabelSettings":
        used = "self_train" in {self.uncertain, *self.uncertain_by_finding.values()}
        if used != (self.teacher is not None):
            raise ValueError("the policy self_train and `teacher`, a finished stage 1 run, go together")
        return self

    @model_validator(mode="after")
    def _ranges_are_of_targets(self) -> "LabelSettings":
        for name in ("smooth_ones_range", "smooth_zeros_range"):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= 1:
                raise ValueError(f"{name}: expected [low, high] with 0 <= low <= high <= 1")
        return self


class HierarchySettings(Settings):
    """Parents and children among the findings."""

    enabled: bool = False
    """Multiply a child's probability by its parents' along the path; train with parents positive where a child is."""
    parents: dict[str, str] | None = None
    """Child -> parent; None: the tree of cxr/labels.py. A parent that is not in `findings` is passed over."""
    conditional_epochs: int = Field(0, ge=0)
    """During so many epochs a child is trained only where its parent is positive; after that only the head learns, from
    everything (Pham et al. 2021, arXiv:1911.06475), and only then the best model is chosen and patience counts."""

    @model_validator(mode="after")
    def _conditional_needs_the_tree(self) -> "HierarchySettings":
        if self.conditional_epochs and not self.enabled:
            raise ValueError("conditional_epochs needs enabled: true")
        return self


class OperatingSettings(Settings):
    """From logits to probabilities and decisions; fitted on validation."""

    calibration: Literal["none", "temperature", "platt", "isotonic"] = "platt"
    """temperature: one scale a finding (Guo et al. 2017); platt: scale and offset; isotonic: any rising function."""
    threshold: Literal["f1", "youden", "sensitivity"] = "f1"
    """The operating point: best F1, best sensitivity + specificity, or the highest threshold that reaches
    `sensitivity`."""
    sensitivity: float = Field(0.95, gt=0, le=1)


class Stage1Settings(Settings):
    data: AnyData
    split: SplitSettings
    findings: list[str] = Field(min_length=1)
    """Canonical names (cxr/labels.py), in the order of the outputs."""
    backbone: BackboneSettings
    init_from: Path | None = None
    """A finished stage 1 run with the same backbone: training starts from its backbone's weights, and from its head's
    for the findings that both have (pretraining on one set, fine-tuning on another)."""
    head: HeadSettings = HeadSettings()
    input: InputSettings = InputSettings()
    augment: AugmentSettings
    views: ViewSettings = ViewSettings()
    labels: LabelSettings = LabelSettings()
    hierarchy: HierarchySettings = HierarchySettings()
    loss: LossSettings = LossSettings()
    sampling: SamplingSettings = SamplingSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    freeze: FreezeSettings = FreezeSettings()
    train: TrainSettings
    operating: OperatingSettings = OperatingSettings()
    seed: int = Field(0, ge=0, lt=2**32)
    tracking: TrackingMode = "off"

    @model_validator(mode="after")
    def _channels_fit(self) -> "Stage1Settings":
        if self.input.channels == "clahe3" and self.backbone.in_channels != 3:
            raise ValueError("input.channels: clahe3 needs backbone.in_channels: 3")
        return self


class EnsembleSettings(Settings):
    """Settings of ensemble.py: finished runs (``--from``) as one classifier."""

    combine: Combine = "mean"
    """Of the members' probabilities; minimum was the source's best."""
    flips: list[Flip] = Field(["none"], min_length=1)
    """Test-time augmentation: each member sees the picture in each of these forms, and the logits are averaged."""
    operating: OperatingSettings = OperatingSettings()
    seed: int = Field(0, ge=0, lt=2**32)

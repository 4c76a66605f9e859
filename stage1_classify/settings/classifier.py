"""Settings of stage 1: data, network, labels, calibration. `input` and `training` hold the rest."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, get_args

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

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

UncertainPolicy = Literal["ignore", "zeros", "ones", "smooth_ones", "smooth_zeros", "three_class", "self_train"]
NotMentioned = Literal["zeros", "ignore"]
Combine = Literal["mean", "minimum", "maximum"]
Flip = Literal["none", "horizontal"]
PackageWeights = Literal["package:efficientnet_lite0", "package:efficientnet_lite1", "package:efficientnet_lite2"]

PACKAGE_PREFIX = "package:"
"""Begins the weights of an installed package; the rest is timm's name of the network without ``tf_``."""


class BackboneSettings(Settings):
    """The network that computes the features, and its initial weights."""

    name: str
    """Any timm model, for instance densenet121, convnext_large, efficientnet_b3, resnet50, vit_small_patch16_224."""
    in_channels: Literal[1, 3] = 1
    """Channels of the network's input. With 3, a grey image is repeated."""
    feature_stage: int | None = None
    """Use the features of this stage (timm's `out_indices`), for a finer map. None: the last stage."""
    output_stride: Literal[8, 16, 32] | None = None
    """Use dilation instead of stride, where timm offers it (ResNet, ConvNeXt and EfficientNet families)."""
    pretrained: bool = False
    """Download timm's pretrained weights. The only setting that uses the network."""
    weights: PackageWeights | Path | None = None
    """A local file with weights of this network in timm's naming (safetensors or pth), or the ImageNet weights of an
    installed package: package:efficientnet_lite0 for tf_efficientnet_lite0, and so for lite1 and lite2. The classifier
    is skipped, the first convolution is summed for one input channel, and position embeddings are resampled to the
    input size."""
    drop_path_rate: float | None = Field(None, ge=0, lt=1)
    """Stochastic depth in training (Huang et al. 2016), where timm offers it."""

    @field_validator("weights")
    @classmethod
    def _package_is_known(cls, weights: PackageWeights | Path | None) -> PackageWeights | Path | None:
        if isinstance(weights, Path) and str(weights).startswith(PACKAGE_PREFIX):
            raise ValueError(f"no such package of weights; known: {', '.join(get_args(PackageWeights))}")
        return weights

    @model_validator(mode="after")
    def _package_fits(self) -> "BackboneSettings":
        if isinstance(self.weights, str):
            name = f"tf_{self.weights.removeprefix(PACKAGE_PREFIX)}"
            if self.name.partition(".")[0] != name:
                raise ValueError(
                    f"weights: {self.weights} are the weights of {name}, not of {self.name}; give name: {name}, or "
                    "other weights"
                )
        return self


class HeadSettings(Settings):
    """How features become one logit per finding."""

    kind: Literal["average", "max", "lse", "exp", "linear", "pcam", "attention"] = "pcam"
    """How the logit map of a finding is pooled to one logit (stage1_classify/model/heads.py)."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of whole feature channels before the 1x1 classifier."""
    lse_gamma: PositiveFloat = 5.0
    """lse: towards 0 the pooling becomes the average, towards infinity the maximum."""
    attention_features: PositiveInt = 128
    """attention: width of the gated attention."""


class LabelSettings(Settings):
    """What labels become as training targets."""

    uncertain: UncertainPolicy = "ignore"
    """What an uncertain label becomes. ignore: masked. zeros, ones: negative, positive. smooth_*: a random target from
    the ranges below. three_class: a third class next to positive and negative. self_train: the probability that the
    run `teacher` predicts."""
    uncertain_by_finding: dict[str, UncertainPolicy] = {}
    """Finding -> its own policy instead of `uncertain`."""
    not_mentioned: NotMentioned = "zeros"
    """What a label becomes that the report does not mention: negative, or masked."""
    smooth_ones_range: tuple[float, float] = (0.55, 0.85)
    """Range of the random targets of smooth_ones."""
    smooth_zeros_range: tuple[float, float] = (0.0, 0.3)
    """Range of the random targets of smooth_zeros."""
    teacher: Path | None = None
    """A finished stage 1 run that relabels uncertain training labels; for the policy self_train."""
    moving_share: float | None = Field(None, gt=0, lt=1)
    """Moving-average labels: after each epoch a target L becomes share * L + (1 - share) * P, where P is the
    probability that training predicted for the case. Masked and uncertain targets stay. None: targets stay."""
    moving_after_epochs: int = Field(1, ge=0)
    """moving_share: targets stay during this many epochs at the start, while probabilities mean little, and during
    hierarchy.conditional_epochs."""

    @model_validator(mode="after")
    def _teacher_is_given(self) -> "LabelSettings":
        used = "self_train" in {self.uncertain, *self.uncertain_by_finding.values()}
        if used != (self.teacher is not None):
            raise ValueError("the policy self_train and `teacher`, a finished stage 1 run, go together")
        return self

    @model_validator(mode="after")
    def _ranges_are_targets(self) -> "LabelSettings":
        for name in ("smooth_ones_range", "smooth_zeros_range"):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= 1:
                raise ValueError(f"{name}: expected [low, high] with 0 <= low <= high <= 1")
        return self


class HierarchySettings(Settings):
    """Parents and children among the findings."""

    enabled: bool = False
    """Multiply a child's probability by those of its ancestors. In training a positive child's parents are positive."""
    parents: dict[str, str] | None = None
    """Child -> parent. None: the tree of the label file, or the built-in one (cxr/labels/findings.py). Parents that
    are not in `findings` are skipped."""
    conditional_epochs: int = Field(0, ge=0)
    """For this many epochs a child is trained only on cases whose parent is positive. Then only the head is trained,
    on all cases (Pham et al. 2021, arXiv:1911.06475); the best epoch and the patience count from there."""

    @model_validator(mode="after")
    def _conditional_needs_the_tree(self) -> "HierarchySettings":
        if self.conditional_epochs and not self.enabled:
            raise ValueError("conditional_epochs needs enabled: true")
        return self


class OperatingPointSettings(Settings):
    """From logits to probabilities and decisions; both are fitted on the validation split, except a fixed threshold."""

    calibration: Literal["none", "temperature", "platt", "isotonic"] = "platt"
    """temperature: one scale per finding (Guo et al. 2017). platt: scale and offset. isotonic: any increasing
    function."""
    threshold: Literal["f1", "youden", "sensitivity", "fixed"] = "f1"
    """The operating point: the best F1, the best sensitivity + specificity, the highest threshold that reaches
    `sensitivity`, or `fixed_at`."""
    sensitivity: float = Field(0.95, gt=0, le=1)
    """The sensitivity to reach, for threshold: sensitivity."""
    fixed_at: float = Field(0.5, gt=0, lt=1)
    """The probability to call positive from, for threshold: fixed."""


class Stage1Settings(Settings):
    """Stage 1: train and evaluate a multilabel classifier."""

    renamed: ClassVar[Mapping[str, str]] = {"operating": "operating_point"}

    data: AnyData
    """The data set with the labels to train on."""
    label_file: Path | None = None
    """Own findings with their tree, synonyms and codes (docs/data.md). The run keeps a copy, which later stages use.
    None: the built-in findings."""
    split: SplitSettings
    """Must give the parts train, val and test."""
    findings: list[str] = Field(min_length=1)
    """Names of cxr/labels/findings.py, of the label file or of the data's own findings, in the order of the outputs."""
    subgroups: list[str] = []
    """Findings whose labels are subgroups of the test cases in the report, next to sex, age and view: with Support
    Devices, treated and untreated cases. They need not be in `findings`."""
    backbone: BackboneSettings
    init_from: Path | None = None
    """A finished stage 1 run with the same backbone. Training starts from its backbone's weights, and from its head's
    weights for the findings that both runs have."""
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
    operating_point: OperatingPointSettings = OperatingPointSettings()
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of everything random in a run."""
    tracking: TrackingMode = "off"
    """Where else, in addition to the run folder, metrics are logged."""

    @property
    def label_columns(self) -> list[str]:
        """The labels that a run needs: those of `findings`, then those of `subgroups` only."""
        return list(dict.fromkeys([*self.findings, *self.subgroups]))

    @model_validator(mode="after")
    def _each_cycle_has_a_factor(self) -> "Stage1Settings":
        factors, cycle_epochs = self.schedule.cycle_factors, self.freeze.cycle_epochs
        if factors is None:
            return self
        if cycle_epochs is None:
            raise ValueError("schedule.cycle_factors needs freeze.cycle_epochs")
        num_cycles = -(-self.train.num_epochs // cycle_epochs)
        if len(factors) != num_cycles:
            raise ValueError(
                f"schedule.cycle_factors: got {len(factors)} factors, expected {num_cycles}: one for each "
                f"{cycle_epochs} of train.num_epochs, {self.train.num_epochs}"
            )
        return self

    @model_validator(mode="after")
    def _channels_fit(self) -> "Stage1Settings":
        if self.input.channels == "clahe3" and self.backbone.in_channels != 3:
            raise ValueError("input.channels: clahe3 needs backbone.in_channels: 3")
        return self


class EnsembleSettings(Settings):
    """Settings of ensemble.py: finished runs (``--from``) as one classifier."""

    renamed: ClassVar[Mapping[str, str]] = {"operating": "operating_point"}

    combine: Combine = "mean"
    """How the members' probabilities are combined."""
    flips: list[Flip] = Field(["none"], min_length=1)
    """Test-time augmentation: each member predicts each of these views, and the logits are averaged."""
    operating_point: OperatingPointSettings = OperatingPointSettings()
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the bootstrap."""

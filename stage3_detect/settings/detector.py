"""Settings of stage 3."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from cxr.config import Settings
from cxr.tracking import TrackingMode
from stage3_detect.settings.backbone import DetectorBackboneSettings
from stage3_detect.settings.distillation import DistillationSettings
from stage3_detect.settings.labels import LabelSettings, NoiseSettings, SelfTrainingSettings, Share


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
    """Length, optimizer and schedule of a training by ultralytics."""

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
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.002
    """Highest learning rate of the schedule. Ultralytics takes at most 1."""
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


class DataSettings(Settings):
    """The detector's images, and what chooses the best epoch."""

    image_px: Annotated[int, Field(ge=64, le=2048, multiple_of=32)]
    """Side of the square network input. Images are letterboxed."""
    validate_on: Literal["pseudo_labels", "tune_boxes"] = "pseudo_labels"
    """What chooses the best epoch. pseudo_labels: a part of the training images that is held out. tune_boxes: the
    radiologists' boxes of the tune split."""
    holdout_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Share of the patients held out, for validate_on: pseudo_labels."""
    on_problem: Literal["error", "exclude"] = "error"
    """Images that cannot be read. error: stop and name all of them. exclude: drop, count and name them."""


class PredictSettings(Settings):
    """How boxes come from the network's output."""

    min_score: Share = 0.001
    """Boxes with a lower score are dropped."""
    nms_iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Non-maximum suppression: of two boxes of a class with a higher IoU the better one stays."""
    max_boxes_per_class: Annotated[int, Field(ge=1)] = 100
    """Most boxes per image and class."""
    correct_boxes: bool = True
    """Correct the mean error of the boxes per finding, as measured on the tune split. The corrections are in the run's
    manifest and not part of exported files."""
    nms_free: bool = False
    """Use YOLO26's one-to-one head instead of the one-to-many head with non-maximum suppression."""


GateExample = Literal["lateral", "child", "not_chest"]

ExportFormat = Literal["onnx", "openvino_fp32", "openvino_fp16", "openvino_int8", "tensorrt_fp16"]


class ExportSettings(Settings):
    """Files for deployment. Each is compared with the trained network on test images."""

    renamed: ClassVar[Mapping[str, str]] = {"forms": "formats", "num_checks": "num_check_images"}

    formats: tuple[ExportFormat, ...] = ("onnx", "openvino_fp32", "openvino_fp16", "openvino_int8")
    """Formats to export. tensorrt_fp16 needs an NVIDIA GPU and the package tensorrt."""
    num_check_images: Annotated[int, Field(ge=1)] = 8
    """Test images on which an exported file must agree with the trained network."""
    num_calibration_images: Annotated[int, Field(ge=1)] = 100
    """Training images on which INT8 activation ranges are measured."""


class GateSettings(Settings):
    """The quality gate, which says whether an image is suited to the detector."""

    num_images: Annotated[int, Field(ge=0)] = 500
    """Training and tune images, evenly spaced, that the gate takes for good ones. 0: fixed rules only, for training
    images that are not all good ones. So it is with fewer than 60 images."""
    examples: dict[GateExample, Path] = {}
    """Reason (lateral, child, not_chest) -> folder with images of this kind, so that the gate can name it."""


class Stage3Settings(Settings):
    """Stage 3: train a detector on the pseudo-labels of a stage 2 run (``--from``), evaluate and export it."""

    renamed: ClassVar[Mapping[str, str]] = {"rounds": "self_training", "beside": "compare_with"}

    model: str = "yolo26n.yaml"
    """An architecture of ultralytics (yolo26n.yaml to yolo26x.yaml, yolo11n.yaml to yolo11x.yaml), trained from
    scratch, or the path of a weights file (.pt) to start from. The network has one grey input channel; the first
    convolution of a file is summed over its colours, which gives the same output for a grey image."""
    data: DataSettings
    backbone: DetectorBackboneSettings = DetectorBackboneSettings()
    distillation: DistillationSettings = DistillationSettings()
    labels: LabelSettings = LabelSettings()
    noise: NoiseSettings = NoiseSettings()
    self_training: SelfTrainingSettings = SelfTrainingSettings()
    augment: AugmentSettings = AugmentSettings()
    train: TrainSettings
    predict: PredictSettings = PredictSettings()
    export: ExportSettings = ExportSettings()
    quality_gate: GateSettings = GateSettings()
    compare_with: dict[str, Path] = {}
    """Name -> another finished stage 3 run with the same test images, whose detections are evaluated too. The name is
    used in metric names, for example supervised: runs/phantom/supervised."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|\d+(,\d+)*)$")] = "auto"
    """auto, cpu, mps, or CUDA numbers such as 0 or 0,1."""
    num_workers: Annotated[int, Field(ge=0)] = 2
    """Threads that prepare image files, and processes that load batches (ultralytics uses none on a CPU)."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything random in a run."""
    num_resamples: Annotated[int, Field(ge=10)] = 1000
    """Bootstrap resamples of the test patients behind the 95 % intervals."""
    num_gallery_images: Annotated[int, Field(ge=1)] = 12
    """Test images in the report's gallery."""
    tracking: TrackingMode = "off"
    """Where metrics are written in addition to the run folder."""

    @field_validator("device", mode="before")
    @classmethod
    def _device_number(cls, value: object) -> object:
        """YAML reads `device: 0` as a number."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("model")
    @classmethod
    def _yaml_or_weights(cls, value: str) -> str:
        if not value.endswith((".yaml", ".yml", ".pt")):
            raise ValueError("expected an architecture such as yolo26n.yaml, or the path of a .pt file")
        return value

    @field_validator("compare_with")
    @classmethod
    def _names_are_free(cls, value: dict[str, Path]) -> dict[str, Path]:
        for name in value:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"{name!r}: expected lower-case letters, digits and underscores")
            if name in ("teacher", "human") or name.startswith(("detector", "prior_")):
                raise ValueError(f"{name!r} is used by other metrics; choose another name, such as supervised")
        return value

    @model_validator(mode="after")
    def _one_start(self) -> "Stage3Settings":
        if self.backbone.source == "classifier":
            if self.distillation.num_epochs:
                raise ValueError(
                    f"backbone.source: classifier with distillation.num_epochs: {self.distillation.num_epochs}: a "
                    "classifier's network has nothing to learn from itself; set num_epochs to 0, or source to yolo"
                )
            if self.from_weights:
                raise ValueError(
                    f"backbone.source: classifier with model: {self.model}, whose weights belong to another backbone; "
                    "give an architecture such as yolo26n.yaml, or set source to yolo"
                )
        return self

    @property
    def from_weights(self) -> bool:
        """Whether training starts from a weights file."""
        return self.model.endswith(".pt")

"""Settings of stage 3."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from cxr.config import Settings
from cxr.tracking import TrackingMode
from stage3_detect.settings.labels import LabelSettings, NoiseSettings, RoundSettings
from stage3_detect.settings.training import AugmentSettings, TrainSettings

Share = Annotated[float, Field(ge=0, le=1)]


class DataSettings(Settings):
    """Pictures of the detector, and what chooses its best epoch."""

    image_px: Annotated[int, Field(ge=64, le=2048, multiple_of=32)]
    """Side of the square network input; pictures are letterboxed."""
    validate_on: Literal["pseudo_labels", "tune_boxes"] = "pseudo_labels"
    """What chooses the best epoch: a held-out part of the training images, or the tune split's reader boxes."""
    holdout_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Part of the patients held out (only for validate_on: pseudo_labels)."""
    on_problem: Literal["error", "exclude"] = "error"
    """An image that cannot be read: stop and name all of them, or leave it out, counted and named."""


class PredictSettings(Settings):
    """How boxes are read from the network's output."""

    min_score: Share = 0.001
    nms_iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    max_boxes_per_class: Annotated[int, Field(ge=1)] = 100
    correct_boxes: bool = True
    """Put right what boxes of a finding are off by on average, as measured on the tune split (the run's manifest tells
    by how much; exported files themselves know nothing of it)."""
    nms_free: bool = False
    """Use YOLO26's one-to-one head instead of the one-to-many head with NMS."""


ExportForm = Literal["onnx", "openvino_fp32", "openvino_fp16", "openvino_int8", "tensorrt_fp16"]


class ExportSettings(Settings):
    """Files for deployment, each checked against the trained network on test images."""

    forms: tuple[ExportForm, ...] = ("onnx", "openvino_fp32", "openvino_fp16", "openvino_int8")
    """tensorrt_fp16 needs an NVIDIA GPU and the tensorrt package."""
    num_checks: Annotated[int, Field(ge=1)] = 8
    """Test images on which the exported file must agree with the trained network."""
    num_calibration_images: Annotated[int, Field(ge=1)] = 100
    """Training images from which INT8 takes the ranges of activations."""


class DetectSettings(Settings):
    """Stage 3: train a detector on stage 2's pseudo-labels, score and export it. The stage 2 run comes by --from."""

    model: str = "yolo26n.yaml"
    """An architecture by ultralytics' yaml name (yolo26n to x, yolo11n to x; from scratch), or the path of a weights
    file (.pt) to start from. The input has one grey channel; a file's first convolution is summed over its colours,
    which gives the same for a grey picture."""
    data: DataSettings
    labels: LabelSettings = LabelSettings()
    noise: NoiseSettings = NoiseSettings()
    rounds: RoundSettings = RoundSettings()
    augment: AugmentSettings = AugmentSettings()
    train: TrainSettings
    predict: PredictSettings = PredictSettings()
    export: ExportSettings = ExportSettings()
    beside: dict[str, Path] = {}
    """Name -> another finished stage 3 run whose detections are judged beside, on the same test images: for example
    supervised: runs/phantom/supervised. A name becomes part of the names of figures."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|\d+(,\d+)*)$")] = "auto"
    """auto, cpu, mps, or CUDA numbers such as 0 or 0,1."""
    num_workers: Annotated[int, Field(ge=0)] = 2
    """Threads that prepare files; processes that load batches (ultralytics uses none on a CPU)."""
    seed: Annotated[int, Field(ge=0)] = 0
    num_resamples: Annotated[int, Field(ge=10)] = 1000
    """Resamples of the test patients, from which every interval comes."""
    num_gallery_images: Annotated[int, Field(ge=1)] = 12
    tracking: TrackingMode = "off"

    @field_validator("model")
    @classmethod
    def _yaml_or_weights(cls, value: str) -> str:
        if not value.endswith((".yaml", ".yml", ".pt")):
            raise ValueError("expected an architecture such as yolo26n.yaml, or the path of a .pt file")
        return value

    @field_validator("beside")
    @classmethod
    def _names_of_figures(cls, value: dict[str, Path]) -> dict[str, Path]:
        for name in value:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"{name!r}: expected a name of lower case letters, digits and underscores")
            if name in ("teacher", "human") or name.startswith(("detector", "prior_")):
                raise ValueError(
                    f"{name!r} is the name of other figures; call it otherwise, for example supervised"
                )
        return value

    @property
    def from_weights(self) -> bool:
        """Whether training starts from a file instead of from scratch."""
        return self.model.endswith(".pt")

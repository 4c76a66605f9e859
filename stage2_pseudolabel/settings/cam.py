"""Settings of the CAM engine: speed, memory, and options of single methods."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt

from cxr.config import Settings


class CamOptions(Settings):
    """Options of `compute_maps`."""

    renamed: ClassVar[Mapping[str, str]] = {"image_batch": "batch_size", "scorecam_batch": "scorecam_batch_size"}

    batch_size: PositiveInt = 16
    """Images per backbone forward. If memory runs out, this and the next two settings are halved."""
    memory_mib: PositiveInt = 256
    """Limit for the gradients of one block of images and classes, for AblationCAM's blocks of channels, and for the
    graph of LayerCAM's earlier stages. A single image and class is never split."""
    scorecam_batch_size: PositiveInt = 32
    """Masked images per forward of scorecam and scorecambudget. 16 to 32 is fastest on a CPU, more on a GPU."""
    scorecam_budget: PositiveInt = 32
    """scorecambudget: masked images per image. scorecam has one per channel."""
    layercam_stages: list[int] | None = None
    """layercamfusion: stages to fuse, counted back from -1, the features that the head uses. None: the last two."""
    layercam_gamma: PositiveFloat = 2.0
    """layercamfusion: factor inside the tanh that scales the maps of earlier stages (the value of the paper)."""
    ablation_value: Literal["zero", "library"] = "zero"
    """AblationCAM: value of a removed channel. library: the one that pytorch-grad-cam uses for features below zero."""
    ablation_denominator: Literal["logit", "magnitude"] = "logit"
    """AblationCAM: weights are divided by the logit (paper, library) or by its magnitude, which keeps the sign of the
    map where the logit is negative."""
    dff_components: PositiveInt = 5
    """Deep Feature Factorization: concepts per image."""
    fullgrad_size: Literal["features", "image"] = "features"
    """FullGrad: its maps have the size of the image. features: they are averaged down to the size of all other maps."""

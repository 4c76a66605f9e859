"""Settings of the CAM engine: speed, memory, and the variants of single methods."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt

from cxr.config import Settings


class CamOptions(Settings):
    renamed: ClassVar[Mapping[str, str]] = {
        "image_batch": "batch_size",
        "scorecam_batch": "scorecam_batch_size",
    }

    batch_size: PositiveInt = 16
    """Images of one backbone forward. Where memory runs out, this and the two below are halved for the time."""
    memory_mib: PositiveInt = 256
    """Bound on the gradients of one block of images and classes with the copies methods make of them, on AblationCAM's
    blocks of channels, and on the graph of LayerCAM's earlier stages. A single image and class is never split."""
    scorecam_batch_size: PositiveInt = 32
    """Masked images of one forward of scorecam and scorecambudget. 16 to 32 is fastest on a CPU, more on a GPU."""
    scorecam_budget: PositiveInt = 32
    """Masked images an image in scorecambudget; scorecam takes one a channel."""
    layercam_stages: list[int] | None = None
    """Stages that layercamfusion fuses, counted back from -1, the features that the head sees. None: the last two."""
    layercam_gamma: PositiveFloat = 2.0
    """How soon the tanh of layercamfusion lifts weak places of earlier stages' maps (the paper's value)."""
    ablation_value: Literal["zero", "library"] = "zero"
    """What stands in for a removed channel; "library" repeats pytorch-grad-cam on features below zero."""
    ablation_denominator: Literal["logit", "magnitude"] = "logit"
    """AblationCAM's weights are shares of the logit (paper, library) or of its magnitude, which keeps the map
    the right way round where the logit is negative."""
    dff_components: PositiveInt = 5
    """Concepts an image in Deep Feature Factorization."""
    fullgrad_size: Literal["features", "image"] = "features"
    """FullGrad's maps have the size of the image; "features" averages them down to the size of all others."""

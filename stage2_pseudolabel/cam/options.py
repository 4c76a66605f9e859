"""Settings of the CAM engine: speed, memory, and the variants of single methods."""

from typing import Literal

from pydantic import PositiveInt

from cxr.config import Settings


class CamOptions(Settings):
    image_batch: PositiveInt = 16
    """Images of one backbone forward."""
    memory_mib: PositiveInt = 256
    """Bound on the gradients of one block of images and classes with the copies methods make of them, and on
    AblationCAM's blocks of channels. A single image and class is never split."""
    scorecam_batch: PositiveInt = 32
    """Masked images of one ScoreCAM forward. 16 to 32 is fastest on a CPU (caches), more on a GPU."""
    scorecam_max_channels: PositiveInt | None = None
    """Masks an image, from the channels that vary most over the positions. None: all of them, exact."""
    ablation_value: Literal["zero", "library"] = "zero"
    """What stands in for a removed channel; "library" repeats pytorch-grad-cam on features below zero."""
    ablation_denominator: Literal["logit", "magnitude"] = "logit"
    """AblationCAM's weights are shares of the logit (paper, library) or of its magnitude, which keeps the map
    the right way round where the logit is negative."""
    dff_components: PositiveInt = 5
    """Concepts an image in Deep Feature Factorization."""
    fullgrad_size: Literal["features", "image"] = "features"
    """FullGrad's maps have the size of the image; "features" averages them down to the size of all others."""

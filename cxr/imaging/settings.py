"""Settings of a network's input: size, channels, contrast and normalisation of the pictures."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cxr.config import Settings


class InputSettings(Settings):
    size_hw: tuple[PositiveInt, PositiveInt] = (384, 384)
    keep_aspect: bool = False
    """Letterbox instead of squash."""
    channels: Literal["grey", "clahe3"] = "grey"
    """grey: one picture, repeated where the backbone takes 3 channels. clahe3: three channels, the picture as it is and
    after CLAHE with clip limits 2 and 4; needs backbone.in_channels=3."""
    clahe_clip: PositiveFloat | None = None
    """Contrast-limited adaptive histogram equalisation (8 x 8 tiles) with this clip limit; None: off. Grey only."""
    normalise: Literal["fixed", "imagenet", "training_set"] = "fixed"
    """Mean and standard deviation, applied after stretching each picture to [0, 1]: fixed takes `mean` and `std`,
    imagenet those of ImageNet, training_set computes them from the training pictures, a channel at a time."""
    mean: list[float] = Field([0.5], min_length=1, max_length=3)
    """One value, or one a channel."""
    std: list[PositiveFloat] = Field([0.25], min_length=1, max_length=3)
    cache_dir: Path | None = Path("runs/cache")
    """Decoded 8-bit pictures are kept here, mapped into memory, shared by all runs. None: decode anew each time."""

    @model_validator(mode="after")
    def _one_kind_of_clahe(self) -> "InputSettings":
        if self.channels == "clahe3" and self.clahe_clip is not None:
            raise ValueError("channels: clahe3 has clip limits of its own; leave clahe_clip out")
        return self

"""Settings of a network's input: size, channels, contrast, normalisation and the picture cache."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from cxr.config import Settings

MAX_SIDE_PX = 4096
"""No backbone takes more, and a batch would not fit into memory."""

Side = Annotated[int, Field(gt=0, le=MAX_SIDE_PX)]


class InputSettings(Settings):
    """From a decoded image to the input of a classifier."""

    size_hw: tuple[Side, Side] = (384, 384)
    """Height and width in pixels to which a picture is resized."""
    crop_hw: tuple[Side, Side] | None = None
    """The network sees a crop of this size of the picture of `size_hw`: a random one in training, the central one
    otherwise. None: the whole picture, which stages 2 and 3 need."""
    keep_aspect: bool = False
    """True: letterbox with black bars. False: squash to the size."""
    channels: Literal["grey", "clahe3"] = "grey"
    """grey: one channel, repeated for a backbone with 3 input channels. clahe3: three channels, which are the picture
    unchanged and after CLAHE with clip limits 2 and 4; requires backbone.in_channels=3."""
    clahe_clip: PositiveFloat | None = None
    """Clip limit of contrast-limited adaptive histogram equalisation (8 x 8 tiles). None: off. For grey only."""
    normalise: Literal["fixed", "imagenet", "training_set"] = "fixed"
    """Source of the mean and standard deviation that normalise the stretched pictures. fixed: `mean` and `std`.
    imagenet: those of ImageNet. training_set: computed per channel from the training pictures."""
    mean: list[float] = Field([0.5], min_length=1, max_length=3)
    """In [0, 1]: one value, or one per channel."""
    std: list[PositiveFloat] = Field([0.25], min_length=1, max_length=3)
    cache_dir: Path | None = Path("runs/cache")
    """Folder of the decoded 8-bit pictures, shared by all runs. None: decode each picture every time."""

    @property
    def net_hw(self) -> tuple[int, int]:
        """Size of the network's input."""
        return self.size_hw if self.crop_hw is None else self.crop_hw

    @model_validator(mode="after")
    def _crop_fits(self) -> "InputSettings":
        if any(crop > side for crop, side in zip(self.net_hw, self.size_hw, strict=True)):
            raise ValueError(f"crop_hw: got {self.crop_hw}, expected at most size_hw, {self.size_hw}")
        return self

    @model_validator(mode="after")
    def _one_kind_of_clahe(self) -> "InputSettings":
        if self.channels == "clahe3" and self.clahe_clip is not None:
            raise ValueError("channels: clahe3 has its own clip limits; remove clahe_clip")
        return self

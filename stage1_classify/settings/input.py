"""Settings of stage 1: what the network sees."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from cxr.config import Settings

Fraction = Field(ge=0, le=1)


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


class AugmentSettings(Settings):
    """Each part has its own probability; 0 switches it off."""

    affine: float = Fraction
    rotate_deg: float = Field(10.0, ge=0, le=180)
    translate: float = Field(0.06, ge=0, lt=1)
    """Share of the width and of the height, either way."""
    scale: float = Field(0.1, ge=0, lt=1)
    """Width and height are each multiplied by a factor within 1 - scale and 1 + scale."""
    shear_deg: float = Field(0.0, ge=0, lt=90)
    brightness_contrast: float = Fraction
    limit: float = Field(0.2, ge=0, le=1)
    """Brightness, and contrast about the mean, are each multiplied by a factor within 1 - limit and 1 + limit."""
    horizontal_flip: float = Fraction
    grid_distortion: float = Fraction
    grid_steps: PositiveInt = 5
    grid_limit: float = Field(0.2, ge=0, le=1)
    elastic: float = Fraction
    elastic_alpha: float = Field(20.0, ge=0)
    """Strength of the displacement in pixels before smoothing, of which about alpha / (17 sigma) are left (root mean
    square; more at the borders), so that the source's alpha 0.1 with sigma 20 moves nothing that one could see."""
    elastic_sigma: float = Field(5.0, ge=1)
    """Smoothness of the displacement in pixels."""
    erase: float = Fraction
    """Blank a few small rectangles, so that no single spot decides."""


class ViewSettings(Settings):
    """How the images of one study are used."""

    max_views: PositiveInt | None = None
    """None: each image is a case of its own. n: a case is a study with up to n of its images, frontal ones first, then
    lateral; the logits of its images are added before the sigmoid. Further images of a study are left out, counted."""

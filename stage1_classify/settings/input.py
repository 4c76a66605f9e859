"""Settings of stage 1: augmentation and views."""

from pydantic import Field, PositiveInt

from cxr.config import Settings

Fraction = Field(ge=0, le=1)


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

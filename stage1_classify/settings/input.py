"""Settings of stage 1: augmentation and views."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from cxr.config import Settings

Probability = Field(ge=0, le=1)


class AugmentSettings(Settings):
    """Random changes of a training image. Each has its own probability; 0 switches it off."""

    renamed: ClassVar[Mapping[str, str]] = {
        "affine": "affine_probability",
        "translate": "translate_share",
        "scale": "scale_share",
        "brightness_contrast": "contrast_probability",
        "limit": "contrast_limit",
        "horizontal_flip": "flip_probability",
        "grid_distortion": "grid_probability",
        "elastic": "elastic_probability",
        "erase": "erase_probability",
    }

    affine_probability: float = Probability
    """Probability of a random rotation, shift, scaling and shear."""
    rotate_deg: float = Field(10.0, ge=0, le=180)
    """Largest rotation, in either direction."""
    translate_share: float = Field(0.06, ge=0, lt=1)
    """Largest shift, as a share of the width and of the height."""
    scale_share: float = Field(0.1, ge=0, lt=1)
    """Width and height are each multiplied by a random factor between 1 - scale_share and 1 + scale_share."""
    shear_deg: float = Field(0.0, ge=0, lt=90)
    """Largest shear angle."""
    contrast_probability: float = Probability
    """Probability of a random change of brightness and contrast."""
    contrast_limit: float = Field(0.2, ge=0, le=1)
    """Brightness and contrast are each multiplied by a random factor between 1 - contrast_limit and
    1 + contrast_limit."""
    flip_probability: float = Probability
    """Probability of a left-right flip."""
    grid_probability: float = Probability
    """Probability of a grid distortion."""
    grid_steps: PositiveInt = 5
    """Cells of the grid per side."""
    grid_limit: float = Field(0.2, ge=0, le=1)
    """Largest distortion of a grid cell, as a share of its side."""
    elastic_probability: float = Probability
    """Probability of an elastic deformation (Simard et al. 2003)."""
    elastic_alpha: float = Field(20.0, ge=0)
    """Strength of the elastic deformation, in pixels before smoothing. The root mean square displacement after
    smoothing is about alpha / (17 sigma) pixels."""
    elastic_sigma: float = Field(5.0, ge=1)
    """Standard deviation of the Gaussian that smooths the displacements, in pixels."""
    erase_probability: float = Probability
    """Probability of blanking one to three small rectangles, so that no single spot decides."""


class ViewSettings(Settings):
    """How the images of one study are used."""

    max_views: PositiveInt | None = None
    """None: each image is a separate case. n: a case is a study with at most n images, frontal ones first, whose
    logits are added before the sigmoid. Further images are dropped and counted."""
    backbones: Literal["shared", "by_view"] = "shared"
    """shared: one backbone for all images. by_view: one for frontal and one for lateral images, with the same head;
    images of unknown view count as frontal. One process only; stages 2 and 3 need a shared one."""

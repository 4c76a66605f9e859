"""Class activation maps: `compute_maps` for the project's classifiers, and for those of timm and torchvision."""

from stage2_pseudolabel.cam.adapter import as_classifier
from stage2_pseudolabel.cam.engine import CamResult, compute_maps

__all__ = ["CamResult", "as_classifier", "compute_maps"]

"""Augmentation of decoded pictures with Albumentations, seeded a picture, so that a resumed run repeats it."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the network for a newer version

import albumentations as A
import cv2

from stage1_classify.config import AugmentSettings
from stage1_classify.pictures import Picture


class Augmentation:
    """(H, W) uint8 to (H, W) uint8; the same seed gives the same picture."""

    def __init__(self, settings: AugmentSettings) -> None:
        self._compose = A.Compose(_transforms(settings), seed=0)

    def __call__(self, picture: Picture, *, seed: int) -> Picture:
        assert picture.ndim == 2, f"expected (H, W), got {picture.shape}; channels come after augmentation"
        self._compose.set_random_seed(seed)
        augmented: Picture = self._compose(image=picture)["image"]
        return augmented


def _transforms(settings: AugmentSettings) -> list[A.BasicTransform]:
    limit = settings.limit
    steps: list[tuple[float, A.BasicTransform]] = [
        (settings.horizontal_flip, A.HorizontalFlip(p=settings.horizontal_flip)),
        (settings.affine, _affine(settings)),
        (
            settings.grid_distortion,
            A.GridDistortion(num_steps=5, distort_limit=0.2, p=settings.grid_distortion),
        ),
        (settings.elastic, A.ElasticTransform(alpha=20, sigma=5, p=settings.elastic)),
        (
            settings.brightness_contrast,
            A.RandomBrightnessContrast(limit, limit, p=settings.brightness_contrast),
        ),
        (
            settings.erase,
            A.CoarseDropout(
                num_holes_range=(1, 3),
                hole_height_range=(0.05, 0.2),
                hole_width_range=(0.05, 0.2),
                fill=0,
                p=settings.erase,
            ),
        ),
    ]
    return [transform for probability, transform in steps if probability > 0]


def _affine(settings: AugmentSettings) -> A.BasicTransform:
    return A.Affine(
        scale=(1 - settings.scale, 1 + settings.scale),
        translate_percent=(-settings.translate, settings.translate),
        rotate=(-settings.rotate_deg, settings.rotate_deg),
        border_mode=cv2.BORDER_CONSTANT,
        p=settings.affine,
    )

"""How many positives of each finding keep a pseudo-box, so that a filter cannot lose a rare finding unseen."""

from dataclasses import dataclass

import numpy as np

from cxr.arrays import Bools, Floats, Ints, mean_over_classes
from cxr.coco import CocoBoxes
from cxr.labels import slug


@dataclass(frozen=True)
class Coverage:
    """Counts of training images for each of K findings.

    base_rates: (K,) share of positive labels in training, NaN if unknown. positives: (K,) images whose label affirms
    the finding. boxed: (K,) those of them that have a box.
    """

    findings: tuple[str, ...]
    base_rates: Floats
    positives: Ints
    boxed: Ints

    @property
    def shares(self) -> Floats:
        """(K,) share of the positives that have a box; NaN without positives."""
        return np.where(self.positives > 0, self.boxed / np.maximum(self.positives, 1), np.nan)

    def metrics(self) -> dict[str, float]:
        """`pseudo_coverage/<finding>`, and the mean over the findings that have positives."""
        shares = {
            f"pseudo_coverage/{slug(name)}": share for name, share in zip(self.findings, self.shares, strict=True)
        }
        return {"pseudo_coverage": float(mean_over_classes(self.shares))} | {k: float(v) for k, v in shares.items()}


def coverage_of(coco: CocoBoxes, labels: Floats, base_rates: Floats) -> Coverage:
    """Count the boxes of `coco`.

    Args:
        coco: boxes and ignore regions of the training images that can be read.
        labels: (N, K) of all training images, also of those that cannot be read; the findings of `coco`.
    """
    positives = np.asarray((labels == 1).sum(axis=0), dtype=np.int64)
    boxed = np.array([len(_images_with_box(coco, name)) for name in coco.findings], dtype=np.int64)
    return Coverage(coco.findings, base_rates, positives, boxed)


def _images_with_box(coco: CocoBoxes, finding: str) -> set[str]:
    is_box: Bools = ~coco.is_ignored & (coco.boxes["finding"] == finding).to_numpy(dtype=bool)
    return set(coco.boxes.loc[is_box, "image_id"])

"""Tiny truths and maps for stage 2; images are 60 x 40 and 90 x 30, never square."""

import numpy as np
import pandas as pd

from cxr.coco import IMAGE_FIELDS, CocoBoxes, boxes_table

FINDINGS = ("Lung Lesion", "Pleural Effusion")


def truth_of(*rows: tuple[object, ...]) -> CocoBoxes:
    """Two images; rows are (image_id, finding, x1, y1, x2, y2)."""
    images = pd.DataFrame(
        [("wide", "wide.png", "full", 60, 40), ("flat", "flat.png", "full", 90, 30)], columns=IMAGE_FIELDS
    )
    return CocoBoxes(images, boxes_table([(*row, float("nan")) for row in rows]), FINDINGS)


def blank_maps() -> np.ndarray:
    """(2 images, 2 findings, 4, 6) of zeros."""
    return np.zeros((2, 2, 4, 6), dtype=np.float32)

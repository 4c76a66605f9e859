"""The training targets as a table: boxes with weights, and regions where background of a class counts less."""

import logging

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.arrays import Bools, Floats
from cxr.boxes import CORNERS, area, as_boxes
from cxr.coco import CocoBoxes
from stage3_detect.settings.detector import Stage3Settings
from stage3_detect.settings.labels import LabelSettings, NoiseSettings

ROW_FIELDS = ["image", "finding", "x1", "y1", "x2", "y2", "weight", "is_region"]
"""image: row number in the table of images. x1 to y2: pixels of the image. weight: of a box, 1 on average; of a region,
how much background counts inside, 0 to 1."""

_SHOWN = 5
log = logging.getLogger("raybox")


def is_strong(coco: CocoBoxes, settings: LabelSettings) -> "pd.Series[bool]":
    """One value per row of boxes: no ignore region, and a score that is high enough (or none: radiologists' boxes)."""
    return ~(coco.boxes["score"] < settings.min_score) & ~coco.is_ignored


def cut_to_images(coco: CocoBoxes) -> CocoBoxes:
    """Clip boxes to their image and drop those without area.

    An image that loses all its boxes is dropped as well: something is marked there, so it is not normal. The log says
    how many boxes and images are dropped.
    """
    sizes = coco.images.set_index("image_id")[["width", "height"]].astype(np.float64)
    limits = np.tile(sizes.loc[coco.boxes["image_id"]].to_numpy(), 2)
    corners = np.clip(as_boxes(coco.boxes[CORNERS].to_numpy(dtype=np.float64)), 0, limits)
    boxes = coco.boxes.assign(**dict(zip(CORNERS, corners.T, strict=True)))
    bad = ~(area(corners) > 0)  # NaN as well
    if not bad.any():
        return coco.with_boxes(boxes)
    kept = boxes[~bad].reset_index(drop=True)
    lost = set(boxes["image_id"]) - set(kept["image_id"])
    shown = ", ".join(sorted(set(boxes.loc[bad, "image_id"]))[:_SHOWN])
    log.warning(
        f"stage3: {bad.sum()} boxes have no area inside their image and are dropped ({shown} ...), with {len(lost)} "
        "images that have no other"
    )
    return coco.with_boxes(kept).select(set(coco.images["image_id"]) - lost)


def rows_of(coco: CocoBoxes, settings: Stage3Settings, *, is_true: bool) -> pd.DataFrame:
    """ROW_FIELDS, sorted by image. The weight of a box is its confidence, not yet scaled to 1 on average.

    Args:
        is_true: the boxes are radiologists'. They are complete, so image labels are not used and all else is
            background, unless the images say themselves which are complete (column complete).
    """
    parts = [_box_rows(coco, settings)[ROW_FIELDS]]
    matrix = coco.label_matrix
    uses_labels = settings.noise.image_labels and (not is_true or "complete" in coco.images)
    if matrix is not None and uses_labels:
        parts.append(_label_rows(coco, matrix, settings.noise))
    table = pd.concat(parts, ignore_index=True)
    return table.sort_values("image", kind="stable", ignore_index=True)


def _box_rows(coco: CocoBoxes, settings: Stage3Settings) -> pd.DataFrame:
    """One row per box, and per ignore region if `noise.ignore_regions`."""
    boxes = coco.boxes
    strong = is_strong(coco, settings.labels)
    weights = pd.Series(1.0, boxes.index)
    if settings.noise.box_weights and "confidence" in boxes:
        weights = boxes["confidence"].fillna(1.0)
    table = boxes.assign(image=_image_numbers(coco), weight=weights.where(strong, 0.0), is_region=~strong)
    return table if settings.noise.ignore_regions else table[strong]


def _label_rows(coco: CocoBoxes, matrix: Floats, noise: NoiseSettings) -> pd.DataFrame:
    """Regions as large as the image, one per class whose background counts less than 1."""
    uncertain = np.where(_has_row(coco), 1.0, 0.0)  # with a region, only the region is masked
    choices = [np.isnan(matrix), matrix == 1, matrix == 0]
    weights = np.select(choices, [noise.unmentioned_weight, noise.affirmed_weight, 1.0], uncertain)
    weights[_is_exact(coco, matrix)] = 1.0
    image, finding = np.nonzero(weights < 1)
    x2, y2 = (coco.images[name].to_numpy(dtype=np.float64)[image] for name in ("width", "height"))
    names = np.array(coco.findings, dtype=object)[finding]
    values = (image, names, 0.0, 0.0, x2, y2, weights[image, finding], True)
    return pd.DataFrame(dict(zip(ROW_FIELDS, values, strict=True)))


def _is_exact(coco: CocoBoxes, matrix: Floats) -> Bools:
    """(N, K) whether the boxes of a class are complete: the image is, and the class is absent or has a box."""
    if "complete" not in coco.images:
        return np.zeros(matrix.shape, dtype=np.bool_)
    boxed = (matrix == 1) & _has_row(coco.without_ignored())
    return np.asarray(coco.images["complete"].to_numpy(dtype=np.bool_)[:, None] & ((matrix == 0) | boxed))


def _has_row(coco: CocoBoxes) -> Bools:
    """(N, K) whether an image has a box or a region of a class."""
    column = pd.Series(range(len(coco.findings)), index=list(coco.findings))
    found = np.zeros((len(coco.images), len(coco.findings)), dtype=np.bool_)
    found[_image_numbers(coco), column.loc[coco.boxes["finding"]].to_numpy()] = True
    return found


def _image_numbers(coco: CocoBoxes) -> npt.NDArray[np.int64]:
    """(B,) row number of each box's image."""
    number = pd.Series(range(len(coco.images)), index=coco.images["image_id"].tolist(), dtype=np.int64)
    return np.asarray(number.loc[coco.boxes["image_id"].tolist()].to_numpy())

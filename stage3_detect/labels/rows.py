"""What each training image tells the detector, as a table: boxes with weights, and regions of a class in which
background counts less or not at all."""

import logging

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr.arrays import Floats
from cxr.boxes import CORNERS, area, as_boxes
from cxr.coco import CocoBoxes
from stage3_detect.settings.detector import DetectSettings
from stage3_detect.settings.labels import LabelSettings, NoiseSettings

ROW_FIELDS = ["image", "finding", "x1", "y1", "x2", "y2", "weight", "is_region"]
"""image: number of the row in the table of images. Places in pixels of the image. weight: of a box, on average 1; of a
region what background counts inside, 0 to 1."""

_SHOWN = 5
log = logging.getLogger("raybox")


def is_strong(coco: CocoBoxes, settings: LabelSettings) -> "pd.Series[bool]":
    """One a row of boxes: no ignore region, and a score that is high enough (or none, as of readers)."""
    return ~(coco.boxes["score"] < settings.min_pseudo_score) & ~coco.is_ignored


def told_labels(coco: CocoBoxes) -> Floats | None:
    """(N, K) what the images' labels say of the classes: 1, 0, -1, NaN where they do not mention one; None where no
    image has labels. Labels of findings that are no classes are left out."""
    if "labels" not in coco.images:
        return None
    told = [labels if isinstance(labels, dict) else {} for labels in coco.images["labels"]]
    table = pd.DataFrame(told, index=range(len(told)), columns=list(coco.findings))
    return np.asarray(table.astype(np.float64).to_numpy())


def cut_to_images(coco: CocoBoxes) -> CocoBoxes:
    """Boxes cut to their image. What then has no area is left out, and so are images that lose all they have: something
    was marked, so they are no normals. Both are counted in the log."""
    sizes = coco.images.set_index("image_id")[["width", "height"]].astype(np.float64)
    limits = np.tile(sizes.loc[coco.boxes["image_id"]].to_numpy(), 2)
    corners = np.clip(as_boxes(coco.boxes[CORNERS].to_numpy(dtype=np.float64)), 0, limits)
    bad = ~(area(corners) > 0)  # NaN as well
    if not bad.any():
        return coco.with_boxes(coco.boxes.assign(**dict(zip(CORNERS, corners.T, strict=True))))
    kept = coco.boxes.assign(**dict(zip(CORNERS, corners.T, strict=True)))[~bad].reset_index(drop=True)
    lost = set(coco.boxes["image_id"]) - set(kept["image_id"])
    names = ", ".join(sorted(set(coco.boxes.loc[bad, "image_id"]))[:_SHOWN])
    log.warning(
        "stage3: %d boxes have no area inside their image and are left out (%s ...), with %d images that have no other",
        int(bad.sum()),
        names,
        len(lost),
    )
    images = coco.images[~coco.images["image_id"].isin(lost)].reset_index(drop=True)
    return CocoBoxes(images, kept, coco.findings, coco.info)


def rows_of(coco: CocoBoxes, settings: DetectSettings, *, is_true: bool) -> pd.DataFrame:
    """ROW_FIELDS, sorted by image; the weights of boxes are their confidence, not yet on average 1.

    is_true: radiologists' boxes, which are complete: labels are not asked, whatever has no box is background.
    """
    parts = [_box_rows(coco, settings)[ROW_FIELDS]]
    told = told_labels(coco)
    if told is not None and settings.noise.image_labels and not is_true:
        parts.append(_label_rows(coco, told, settings.noise))
    table = pd.concat(parts, ignore_index=True)
    return table.sort_values("image", kind="stable", ignore_index=True)


def _box_rows(coco: CocoBoxes, settings: DetectSettings) -> pd.DataFrame:
    """Boxes; of the others regions, where regions are told."""
    boxes, number = coco.boxes, _numbers(coco)
    strong = is_strong(coco, settings.labels)
    weights = pd.Series(1.0, boxes.index)
    if settings.noise.box_weights and "confidence" in boxes:
        weights = boxes["confidence"].fillna(1.0)
    table = boxes.assign(image=number, weight=weights.where(strong, 0.0), is_region=~strong)
    return table if settings.noise.ignore_regions else table[strong]


def _label_rows(coco: CocoBoxes, told: Floats, noise: NoiseSettings) -> pd.DataFrame:
    """Regions of the size of the image for classes of which the label does not deny that they are there."""
    weights = _background_weights(told, _has_row(coco), noise)
    image, finding = np.nonzero(weights < 1)
    return pd.DataFrame(
        {
            "image": image,
            "finding": np.array(coco.findings, dtype=object)[finding],
            "x1": 0.0,
            "y1": 0.0,
            "x2": coco.images["width"].to_numpy(dtype=np.float64)[image],
            "y2": coco.images["height"].to_numpy(dtype=np.float64)[image],
            "weight": weights[image, finding],
            "is_region": True,
        }
    )


def _background_weights(told: Floats, has_row: npt.NDArray[np.bool_], noise: NoiseSettings) -> Floats:
    """(N, K) what background of a class counts outside of its boxes and regions, by the image's label."""
    doubted = np.where(has_row, 1.0, 0.0)  # its region says where
    choices = [np.isnan(told), told == 1, told == 0]
    return np.select(choices, [noise.unmentioned_weight, noise.affirmed_weight, 1.0], doubted)


def _has_row(coco: CocoBoxes) -> npt.NDArray[np.bool_]:
    """(N, K) whether an image has a box or a region of a class."""
    column = pd.Series(range(len(coco.findings)), index=list(coco.findings))
    found = np.zeros((len(coco.images), len(coco.findings)), dtype=np.bool_)
    found[_numbers(coco), column.loc[coco.boxes["finding"]].to_numpy()] = True
    return found


def _numbers(coco: CocoBoxes) -> npt.NDArray[np.int64]:
    """(B,) for each row of boxes the number of its image."""
    number = pd.Series(range(len(coco.images)), index=coco.images["image_id"].tolist(), dtype=np.int64)
    return np.asarray(number.loc[coco.boxes["image_id"].tolist()].to_numpy())
